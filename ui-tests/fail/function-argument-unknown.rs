#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(name = "uno")]
    fn one(&self) -> i64;
}

fn main() {}
