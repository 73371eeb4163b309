use rpc_parallel::Context;

#[rpc_parallel::worker]
pub trait Bank {
    fn deposit(&self, cx: &Context<String>, amount: u64, again: &Context<String>) -> u64;
}

fn main() {}
