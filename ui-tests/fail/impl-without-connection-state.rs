use rpc_parallel::{Context, WorkerState};

pub struct Account;

#[rpc_parallel::worker]
pub trait Bank {
    fn owner(&self, cx: &Context<Account>) -> String;
}

#[derive(Default, WorkerState)]
pub struct Ledger;

#[rpc_parallel::worker]
impl Bank for Ledger {
    fn owner(&self, _: &Context<Account>) -> String {
        String::new()
    }
}

fn main() {}
