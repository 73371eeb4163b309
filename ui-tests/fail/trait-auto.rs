#[rpc_parallel::worker]
pub auto trait Arithmetic {
    fn sum(&self, xs: Vec<i64>) -> i64;
}

fn main() {}
