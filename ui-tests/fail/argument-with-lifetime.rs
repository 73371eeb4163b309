#[rpc_parallel::worker]
pub trait Arithmetic {
    fn length(&self, word: &'static str) -> usize;
}

fn main() {}
