use std::task::Context;

#[rpc_parallel::worker]
pub trait Bank {
    async fn deposit(&self, cx: &Context<'_>, amount: u64) -> u64;
}

fn main() {}
