use rpc_parallel::Context;

#[rpc_parallel::worker]
pub trait Bank {
    fn deposit(&self, cx: &mut Context<String>, amount: u64) -> u64;
}

fn main() {}
