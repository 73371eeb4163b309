use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Pipe<T>(pub T);

#[rpc_parallel::worker]
pub trait Plumbing {
    async fn lay(&self, pipe: Pipe<u64>) -> u64;
}

#[rpc_parallel::worker]
pub trait Archaeology {
    async fn dig_out(&self) -> Pipe<u64>;
}

fn main() {}
