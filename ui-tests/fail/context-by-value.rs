use rpc_parallel::Context;

#[rpc_parallel::worker]
pub trait Bank {
    async fn deposit(&self, cx: Context<String>, amount: u64) -> u64;
}

fn main() {}
