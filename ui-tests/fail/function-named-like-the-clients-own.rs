#[rpc_parallel::worker]
pub trait Arithmetic {
    fn close(&self);
    fn clone(&self) -> u8;
}

fn main() {}
