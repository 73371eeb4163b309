//! Everything that can go wrong with a call, as its caller sees it: one worker, many mistakes.
//!
//! A function's own error keeps its type. Whatever else happens is a `CallError`, whose kind is for
//! programs and whose text is for people.

use std::path::Path;
use std::time::Duration;

use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, ExitReason, MessageKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Functions that go wrong.
#[rpc_parallel::worker]
pub trait Fallible {
    /// Takes money out, if there is enough: an error of its own type.
    fn withdraw(&self, amount: u64) -> Result<u64, Overdrawn>;

    /// Reads a file, with an error that takes in all others by `?`.
    fn read(&self, path: &Path) -> Result<String, AnyError>;

    /// Returns one of three, and panics for any other.
    fn pick(&self, index: usize) -> char;

    /// Returns so many zeros.
    fn zeros(&self, count: usize) -> Vec<u8>;

    /// Waits.
    async fn sleep(&self, time: Duration);

    /// Ends the worker's process, with a code.
    fn exit(&self, code: i32);

    /// Ends the worker's process, by a signal.
    fn abort(&self);
}

/// There is too little money.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("there are {missing} too few")]
pub struct Overdrawn {
    missing: u64,
}

struct Account {
    balance: u64,
}

impl WorkerState for Account {
    type Init = Option<u64>;

    async fn init(balance: Option<u64>) -> Result<Self, BoxError> {
        Ok(Self { balance: balance.ok_or("an account begins with a balance")? })
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
        eprintln!("I am about to abort");
        std::process::abort();
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Messages of a kilobyte are enough for all but the zeros, and panics of one line for a reader.
    let settings = Settings::default().with_max_message_size(1024);
    let spawner =
        Account::spawner().name("account-1").settings(settings).env("RUST_BACKTRACE", "0");
    let account = spawner.clone().spawn(Some(100)).await?;

    let error = account.withdraw(120).await.expect_err("there are only 100");
    println!("{error}");
    assert_eq!(error, FunctionError::Function(Overdrawn { missing: 20 }));

    let error = account.read(Path::new("/no/such/file")).await.expect_err("there is none");
    println!("{error}");
    assert!(matches!(error, FunctionError::Function(AnyError { .. })));

    let error = account.pick(3).await.expect_err("there are three");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::Panicked(_)));

    let error = account.zeros(2000).await.expect_err("it is too much");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::TooLarge { side: MessageKind::Result, .. }));

    let call = account.sleep(Duration::from_secs(3600)).timeout(Duration::from_millis(50));
    let error = call.await.expect_err("an hour is too long");
    println!("{error}");
    assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }));

    // So far the worker and the connection have lived on.
    assert_eq!(account.withdraw(1).await?, 99);

    let error = account.exit(3).await.expect_err("a dead worker does not answer");
    println!("{error}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { return Err(error.into()) };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));

    let account = spawner.clone().spawn(Some(100)).await?;
    let error = account.abort().await.expect_err("a dead worker does not answer");
    println!("{error}");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { return Err(error.into()) };
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { signal: 6, .. }));
    assert_eq!(failure.stderr(), ["I am about to abort"]);

    let error = spawner.spawn(None).await.expect_err("an account needs a balance");
    println!("{error}");
    assert!(matches!(error.kind(), SpawnErrorKind::Init { .. }));
    Ok(())
}
