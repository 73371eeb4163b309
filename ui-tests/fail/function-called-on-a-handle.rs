use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
pub trait Bank {
    fn total(&self) -> u64;
}

#[derive(Default, WorkerState)]
pub struct Ledger;

#[rpc_parallel::worker]
impl Bank for Ledger {
    fn total(&self) -> u64 {
        0
    }
}

pub async fn start() -> Result<u64, BoxError> {
    let ledger = Ledger::spawner().start(()).await?;
    Ok(ledger.total().await?)
}

fn main() {}
