//! A worker server in the master's process, and a worker that calls it back.
//!
//! The handle of the server is plain data and travels as an argument of a call.

use std::sync::{Mutex, MutexGuard};

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::prelude::*;

/// The functions of a journal of progress.
#[rpc_parallel::worker]
pub trait Progress {
    /// Adds a report, in percent.
    async fn report(&self, percent: u8);

    /// Returns all reports.
    async fn reports(&self) -> Vec<u8>;
}

/// The state of the server, in the master's process.
#[derive(Default, WorkerState)]
pub struct Journal(Mutex<Vec<u8>>);

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("no function panics while it holds this lock")
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

/// The functions of a worker with a long job.
#[rpc_parallel::worker]
pub trait Work {
    /// Works, and reports its progress to a journal in any process.
    async fn work(&self, journal: &Worker<Journal>) -> Result<(), AnyError>;
}

/// The state of the worker, in a process of its own.
#[derive(Default, WorkerState)]
struct JobRunner;

#[rpc_parallel::worker]
impl Work for JobRunner {
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
    let runner = JobRunner::spawn(()).await?;
    println!("{journal}\n{}", runner.label());

    runner.work(&journal).await?;

    let progress = journal.connect(()).await?;
    assert_eq!(progress.reports().await?, [25, 50, 75, 100]);

    // A closed server accepts no new connections. Existing connections continue.
    progress.close_server().await?;
    assert_eq!(progress.reports().await?.len(), 4);
    let error = journal.connect(()).await.expect_err("the server is closed");
    println!("{error}");
    assert!(matches!(error.kind(), ConnectErrorKind::NoSuchWorker));
    Ok(())
}
