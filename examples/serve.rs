//! A worker server in this process, and a worker in another that calls it back.
//!
//! The handle of a server is plain data: it travels as an argument like any other.

use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::prelude::*;

/// Listens to those who report.
#[rpc_parallel::worker]
pub trait Progress {
    /// Notes how far somebody is.
    async fn report(&self, percent: u8);

    /// Returns all that has been noted.
    async fn reports(&self) -> Vec<u8>;
}

/// Served here, in the process of the master.
#[derive(Default, WorkerState)]
pub struct Journal(Mutex<Vec<u8>>);

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

#[rpc_parallel::worker]
impl Progress for Journal {
    async fn report(&self, percent: u8) {
        println!("{percent} %");
        self.entries().push(percent);
    }

    async fn reports(&self) -> Vec<u8> {
        self.entries().clone()
    }
}

/// Does something that takes its time.
#[rpc_parallel::worker]
pub trait Work {
    /// Works, and reports to a journal, wherever that is.
    async fn work(&self, journal: &Worker<Journal>) -> Result<(), AnyError>;
}

/// Spawned, in a process of its own.
#[derive(Default, WorkerState)]
struct Hand;

#[rpc_parallel::worker]
impl Work for Hand {
    async fn work(&self, journal: &Worker<Journal>) -> Result<(), AnyError> {
        let progress = journal.connect(()).await?;
        for percent in [25, 50, 75, 100] {
            progress.report(percent).await?;
        }
        Ok(())
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let journal = Journal::serve(()).await?;
    let hand = Hand::spawn(()).await?;
    println!("{journal}\n{}", hand.label());

    hand.work(&journal).await?;

    let progress = journal.connect(()).await?;
    assert_eq!(progress.reports().await?, [25, 50, 75, 100]);

    // A server that is closed takes no new connections. Those that there are go on.
    progress.close_server().await?;
    assert_eq!(progress.reports().await?.len(), 4);
    let error = journal.connect(()).await.expect_err("it is closed");
    println!("{error}");
    assert!(matches!(error.kind(), ConnectErrorKind::NoSuchWorker));
    Ok(())
}
