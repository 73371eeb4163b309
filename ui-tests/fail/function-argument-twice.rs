#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(id = "one", id = "uno")]
    fn one(&self) -> i64;
}

fn main() {}
