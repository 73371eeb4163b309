#[rpc_parallel::worker]
pub trait Arithmetic {
    fn copy(&self) -> Box<Self>;
}

fn main() {}
