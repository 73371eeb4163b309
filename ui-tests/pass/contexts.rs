//! Contexts at every position among the arguments.

use rpc_parallel::{BoxError, ConnectionState, Context, WorkerState};

struct Account(String);

#[rpc_parallel::worker]
trait Bank {
    async fn first(&self, cx: &Context<Account>, amount: u64) -> u64;
    async fn last(&self, amount: u64, cx: &Context<Account>) -> u64;
    fn alone(&self, _cx: &Context<Account>) -> String;
    fn none(&self);
}

struct Ledger(u64);

impl WorkerState for Ledger {
    type Init = u64;
    async fn init(balance: u64) -> Result<Self, BoxError> {
        Ok(Ledger(balance))
    }
}

impl ConnectionState<Ledger> for Account {
    type Init = String;
    async fn init(_: &Ledger, owner: String) -> Result<Self, BoxError> {
        Ok(Account(owner))
    }
}

#[rpc_parallel::worker(id = "ledger")]
impl Bank for Ledger {
    async fn first(&self, _: &Context<Account>, amount: u64) -> u64 {
        self.0 + amount
    }
    async fn last(&self, amount: u64, _: &Context<Account>) -> u64 {
        self.0 + amount
    }
    fn alone(&self, cx: &Context<Account>) -> String {
        cx.state().0.clone()
    }
    fn none(&self) {}
}

#[rpc_parallel::worker]
trait Plain {
    fn plain(&self, cx: &Context) -> u64;
}

#[derive(Default, WorkerState)]
struct Nothing;

#[rpc_parallel::worker]
impl Plain for Nothing {
    fn plain(&self, _: &Context) -> u64 {
        0
    }
}

async fn calls(bank: &BankClient, plain: &PlainClient) -> Result<(), rpc_parallel::CallError> {
    bank.first(1).await?;
    bank.last(1).await?;
    bank.alone().await?;
    bank.none().await?;
    plain.plain().await?;
    Ok(())
}

#[rpc_parallel::entry]
fn main() {
    let _ = calls;
}
