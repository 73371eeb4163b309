//! Each way in which a call can fail, and its error text.
//!
//! A function's own error keeps its type. All other failures are a `CallError`: programs match on
//! its kind, and people read its text.

use std::path::Path;
use std::time::Duration;

use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, ExitReason, MessageKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Functions that fail.
#[rpc_parallel::worker]
pub trait Fallible {
    /// Reduces the balance. Its error has a type of its own.
    fn withdraw(&self, amount: u64) -> Result<u64, Overdrawn>;

    /// Reads a file. Any error converts into its error type by `?`.
    fn read(&self, path: &Path) -> Result<String, AnyError>;

    /// Returns one of three letters, and panics for another index.
    fn pick(&self, index: usize) -> char;

    /// Returns `count` zeros.
    fn zeros(&self, count: usize) -> Vec<u8>;

    /// Waits.
    async fn sleep(&self, time: Duration);

    /// Ends the worker's process with an exit code.
    fn exit(&self, code: i32);

    /// Ends the worker's process by a signal.
    fn abort(&self);
}

/// The balance is too low.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the balance is too low by {missing}")]
pub struct Overdrawn {
    missing: u64,
}

struct Account {
    balance: u64,
}

impl WorkerState for Account {
    type Init = Option<u64>;

    async fn init(balance: Option<u64>) -> Result<Self, BoxError> {
        Ok(Self { balance: balance.ok_or("an account needs a balance")? })
    }
}

#[rpc_parallel::worker]
impl Fallible for Account {
    fn withdraw(&self, amount: u64) -> Result<u64, Overdrawn> {
        let overdrawn = || Overdrawn { missing: amount - self.balance };
        self.balance.checked_sub(amount).ok_or_else(overdrawn)
    }

    fn read(&self, path: &Path) -> Result<String, AnyError> {
        Ok(std::fs::read_to_string(path)?)
    }

    fn pick(&self, index: usize) -> char {
        ['a', 'b', 'c'][index]
    }

    fn zeros(&self, count: usize) -> Vec<u8> {
        vec![0; count]
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn exit(&self, code: i32) {
        std::process::exit(code);
    }

    fn abort(&self) {
        eprintln!("about to abort");
        std::process::abort();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // The limit of 1 KiB is for `zeros`. Without backtraces each panic is one line.
    let settings = Settings::default().with_max_message_size(1024);
    let spawner =
        Account::spawner().name("account-1").settings(settings).env("RUST_BACKTRACE", "0");
    let account = spawner.clone().spawn(Some(100)).await?;

    let error = account.withdraw(120).await.expect_err("the balance is 100");
    println!("{error}");
    assert_eq!(error, FunctionError::Function(Overdrawn { missing: 20 }));

    let error = account.read(Path::new("/no/such/file")).await.expect_err("there is no file");
    println!("{error}");
    assert!(matches!(error, FunctionError::Function(AnyError { .. })));

    let error = account.pick(3).await.expect_err("the indices are 0 to 2");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)));

    let error = account.zeros(2000).await.expect_err("the result is larger than 1024 bytes");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::TooLarge { message: MessageKind::Result, .. }));

    let call = account.sleep(Duration::from_secs(3600)).timeout(Duration::from_millis(50));
    let error = call.await.expect_err("the deadline is shorter than the sleep");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }));

    // None of these errors has ended the worker or the connection.
    assert_eq!(account.withdraw(1).await?, 99);

    let error = account.exit(3).await.expect_err("the process ends in the call");
    println!("{error}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { return Err(error.into()) };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));

    let account = spawner.clone().spawn(Some(100)).await?;
    let error = account.abort().await.expect_err("the process ends in the call");
    println!("{error}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { return Err(error.into()) };
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { signal: 6, .. }));
    assert_eq!(failure.stderr(), ["about to abort"]);

    let error = spawner.spawn(None).await.expect_err("an account needs a balance");
    println!("{error}");
    assert!(matches!(error.kind(), SpawnErrorKind::Init { .. }));
    Ok(())
}
