use rpc_parallel::{BoxError, ConnectionState, Context, Spawn, WorkerState};

pub struct Account(String);

#[rpc_parallel::worker]
pub trait Bank {
    fn owner(&self, cx: &Context<Account>) -> String;
}

#[derive(Default, WorkerState)]
pub struct Ledger;

impl ConnectionState<Ledger> for Account {
    type Init = String;
    async fn init(_: &Ledger, owner: String) -> Result<Self, BoxError> {
        Ok(Account(owner))
    }
}

#[rpc_parallel::worker]
impl Bank for Ledger {
    fn owner(&self, cx: &Context<Account>) -> String {
        cx.state().0.clone()
    }
}

pub fn start() {
    let _ = Ledger::spawn(());
}

fn main() {}
