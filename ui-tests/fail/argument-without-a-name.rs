#[rpc_parallel::worker]
pub trait Arithmetic {
    fn drop(&self, _: String);
}

fn main() {}
