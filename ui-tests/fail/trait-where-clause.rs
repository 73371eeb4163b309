#[rpc_parallel::worker]
pub trait Arithmetic
where
    Self: Send,
 {
    fn sum(&self, xs: Vec<i64>) -> i64;
}

fn main() {}
