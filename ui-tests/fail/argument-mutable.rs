#[rpc_parallel::worker]
pub trait Arithmetic {
    fn sort(&self, xs: &mut Vec<i64>);
}

fn main() {}
