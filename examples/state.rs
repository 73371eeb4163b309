//! The state of a worker, which all its connections share, and the state of each connection.
//!
//! A `Ledger` is the state of a worker, and writes to a file. An `Account` is the state of one
//! connection, of one owner.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::prelude::*;

/// The functions of a bank for the owner of an account.
#[rpc_parallel::worker]
pub trait Bank {
    /// Adds to the balance of the account, and returns the new balance.
    async fn deposit(&self, account: &Context<Account>, amount: u64) -> u64;

    /// Returns the owner of the account.
    async fn owner(&self, account: &Context<Account>) -> String;

    /// Returns the sum of all balances.
    async fn total(&self) -> u64;
}

/// The state of the worker, shared by all connections.
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
        self.0.lock().expect("no function panics while it holds this lock")
    }
}

/// The state of a connection.
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
        writeln!(book.file, "{} {amount}", account.owner).expect("the file is writable");
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
    // `start` returns a handle. Any number of connections can follow.
    let worker = Ledger::spawner().name("ledger-1").start(path.clone()).await?;

    let ada = worker.connect("ada".into()).await?;
    let bob = worker.connect("bob".into()).await?;
    assert_eq!(ada.deposit(10).await?, 10);
    assert_eq!(bob.deposit(5).await?, 5);
    assert_eq!(ada.deposit(2).await?, 12);
    println!("total of {} and {}: {}", ada.owner().await?, bob.owner().await?, ada.total().await?);
    assert_eq!(bob.total().await?, 17);

    // A second connection of the same owner has a state of its own, and the same ledger.
    let ada_again = worker.connect("ada".into()).await?;
    assert_eq!(ada_again.deposit(0).await?, 12);

    // If the state of a connection cannot be made, `connect` fails and the worker continues.
    let error = worker.connect(String::new()).await.expect_err("the name is empty");
    println!("{error}");
    assert!(matches!(error.kind(), ConnectErrorKind::Init { .. }));

    assert_eq!(std::fs::read_to_string(&path)?, "ada 10\nbob 5\nada 2\nada 0\n");
    std::fs::remove_file(path)?;
    Ok(())
}
