#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(id = 1)]
    fn one(&self) -> i64;
    #[worker(result = true)]
    fn two(&self) -> Result<i64, i64>;
    #[worker(id = "")]
    fn three(&self) -> i64;
}

fn main() {}
