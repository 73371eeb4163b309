#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(id = "add")]
    fn add(&self, a: i64, b: i64) -> i64;
    #[worker(id = "add")]
    fn plus(&self, a: i64, b: i64) -> i64;
}

fn main() {}
