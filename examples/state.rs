//! Two kinds of state: a worker's, which all its connections share, and a connection's own.
//!
//! A ledger is a worker, and keeps what it knows in a file. An account is one owner's connection to
//! the ledger.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::prelude::*;

/// A bank, as the owner of an account sees it.
#[rpc_parallel::worker]
pub trait Bank {
    /// Puts money into the account; returns what is in it now.
    async fn deposit(&self, account: &Context<Account>, amount: u64) -> u64;

    /// Returns whose account it is.
    async fn owner(&self, account: &Context<Account>) -> String;

    /// Returns what is in all accounts.
    async fn total(&self) -> u64;
}

/// The state of the worker: one, for all connections.
struct Ledger(Mutex<Book>);

struct Book {
    file: File,
    balances: BTreeMap<String, u64>,
}

impl WorkerState for Ledger {
    type Init = PathBuf;

    async fn init(path: PathBuf) -> Result<Self, BoxError> {
        let file = File::create(path)?;
        Ok(Self(Mutex::new(Book { file, balances: BTreeMap::new() })))
    }
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

/// The state of a connection: one for each.
pub struct Account {
    owner: String,
}

impl ConnectionState<Ledger> for Account {
    type Init = String;

    async fn init(ledger: &Ledger, owner: String) -> Result<Self, BoxError> {
        if owner.is_empty() {
            return Err("an account needs an owner".into());
        }
        ledger.book().balances.entry(owner.clone()).or_default();
        Ok(Self { owner })
    }
}

#[rpc_parallel::worker]
impl Bank for Ledger {
    async fn deposit(&self, account: &Context<Account>, amount: u64) -> u64 {
        let mut book = self.book();
        writeln!(book.file, "{} {amount}", account.owner).expect("the ledger can be written");
        let balance = book.balances.entry(account.owner.clone()).or_default();
        *balance += amount;
        *balance
    }

    async fn owner(&self, account: &Context<Account>) -> String {
        account.owner.clone()
    }

    async fn total(&self) -> u64 {
        self.book().balances.values().sum()
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("ledger-{}", std::process::id()));
    // `start` gives a handle instead of a connection; any number of connections follow.
    let worker = Ledger::spawner().name("ledger-1").start(path.clone()).await?;

    let ada = worker.connect("ada".into()).await?;
    let bob = worker.connect("bob".into()).await?;
    assert_eq!(ada.deposit(10).await?, 10);
    assert_eq!(bob.deposit(5).await?, 5);
    assert_eq!(ada.deposit(2).await?, 12);
    println!("{} and {} have {}", ada.owner().await?, bob.owner().await?, ada.total().await?);
    assert_eq!(bob.total().await?, 17);

    // A second connection of the same owner is another connection, but the ledger is the same.
    let ada_again = worker.connect("ada".into()).await?;
    assert_eq!(ada_again.deposit(0).await?, 12);

    // A connection whose state cannot be made is none, and the worker does not mind.
    let error = worker.connect(String::new()).await.expect_err("nobody has no account");
    println!("{error}");
    assert!(matches!(error.kind(), ConnectErrorKind::Init { .. }));

    assert_eq!(std::fs::read_to_string(&path)?, "ada 10\nbob 5\nada 2\nada 0\n");
    std::fs::remove_file(path)?;
    Ok(())
}
