#[rpc_parallel::worker]
pub trait Arithmetic {
    #[worker(id = 1)]
    fn one(&self) -> i64;
    #[worker(result = true)]
    fn two(&self) -> Result<i64, i64>;
    #[worker(id = "")]
    fn three(&self) -> i64;
    #[worker(one_way(true))]
    fn four(&self);
    #[worker(no_cancel = true)]
    fn five(&self);
}

fn main() {}
