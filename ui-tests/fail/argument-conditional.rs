#[rpc_parallel::worker]
pub trait Arithmetic {
    fn add(&self, a: i64, #[cfg(all())] b: i64) -> i64;
}

fn main() {}
