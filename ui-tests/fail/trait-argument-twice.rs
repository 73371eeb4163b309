#[rpc_parallel::worker(crate = rpc_parallel, crate = rpc_parallel)]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

fn main() {}
