use rpc_parallel::Context;

struct Account;

#[rpc_parallel::worker]
pub trait Bank {
    async fn deposit(&self, cx: &Context<Account>, amount: u64) -> u64;
}

fn main() {}
