#[rpc_parallel::worker]
pub trait Arithmetic {
    fn copy(&self) -> Option<Self>
    where
        Self: Sized;
}

fn main() {}
