use rpc_parallel::Context;

#[rpc_parallel::worker]
pub trait Bank {
    fn deposit(&self, cx: &Context<String>, amount: u64) -> u64;
    fn withdraw(&self, cx: &Context<u64>, amount: u64) -> u64;
}

fn main() {}
