//! The workers of a round.

use std::future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

use super::company::Company;
use super::plan::{Blow, Branch, Init, Point};
use super::signal;
use super::word::{Said, tell};

/// What workers of a round can do.
#[rpc_parallel::worker]
pub(super) trait Hand {
    /// Answers with what it is given.
    async fn echo(&self, bytes: Bytes) -> Bytes;

    /// Waits for ever.
    async fn hold(&self);

    /// Keeps the worker's thread.
    async fn block(&self, time: Duration);

    /// Counts for ever.
    async fn numbers(&self) -> Pipe<u64>;

    /// Adds up.
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, PipeError>;

    /// Calls another worker, again and again.
    async fn visit(&self, whom: Worker<Body>) -> Result<(), AnyError>;

    /// Begins to be a master.
    async fn employ(&self, branches: Vec<Branch>);

    /// Ends its workers, and tells the driver what was wrong with them.
    async fn dismiss(&self);
}

/// The state of a worker.
#[derive(Default)]
pub(super) struct Body {
    life: Life,
    /// A bit for each point that was reached.
    reached: AtomicU8,
    company: Mutex<Option<Company>>,
}

/// What a worker is told of itself.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Life {
    /// Empty if nobody needs to know of it.
    pub(super) name: String,
    pub(super) init: Option<Init>,
    pub(super) shutdown: Duration,
    pub(super) suicide: Option<(Point, Blow)>,
}

impl WorkerState for Body {
    type Init = Life;

    async fn init(life: Life) -> Result<Self, BoxError> {
        let body = Self { life, ..Self::default() };
        body.reach(Point::Init);
        match body.life.init {
            None | Some(Init::Quick) => {}
            Some(Init::Waits(time)) => tokio::time::sleep(time).await,
            Some(Init::Blocks(time)) => thread::sleep(time),
        }
        Ok(body)
    }

    async fn on_shutdown(&self) {
        self.reach(Point::Shutdown);
        tokio::time::sleep(self.life.shutdown).await;
    }
}

impl Body {
    /// Tells that this worker has come to a place, the first time, and strikes itself if it shall.
    fn reach(&self, point: Point) {
        let bit = 1 << point as u8;
        let before = self.reached.fetch_or(bit, Ordering::Relaxed);
        let Life { name, suicide, .. } = &self.life;
        if before & bit != 0 || name.is_empty() {
            return;
        }
        tell(Said::Reached { name: name.clone(), point });
        if let Some((_, blow)) = suicide.filter(|(at, _)| *at == point) {
            tell(Said::StrikesItself { name: name.clone(), blow });
            signal::strike_myself(blow);
        }
    }

    fn company(&self) -> MutexGuard<'_, Option<Company>> {
        self.company.lock().expect("nobody panics while holding this lock")
    }
}

#[rpc_parallel::worker]
impl Hand for Body {
    async fn echo(&self, bytes: Bytes) -> Bytes {
        self.reach(Point::Call);
        bytes
    }

    async fn hold(&self) {
        self.reach(Point::Call);
        future::pending::<()>().await;
    }

    async fn block(&self, time: Duration) {
        self.reach(Point::Call);
        thread::sleep(time);
    }

    async fn numbers(&self) -> Pipe<u64> {
        self.reach(Point::Stream);
        Pipe::from_items(0..)
    }

    async fn sum(&self, mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
            self.reach(Point::Stream);
        }
        Ok(sum)
    }

    async fn visit(&self, whom: Worker<Body>) -> Result<(), AnyError> {
        self.reach(Point::Call);
        let client = whom.connect(()).await?;
        loop {
            client.echo(Bytes::from_static(b"good day")).await?;
        }
    }

    async fn employ(&self, branches: Vec<Branch>) {
        let company = Company::open(branches, self.life.name.clone()).await;
        *self.company() = Some(company);
    }

    async fn dismiss(&self) {
        let company = self.company().take();
        if let Some(mut company) = company {
            company.close().await;
            *self.company() = Some(company);
        }
    }
}
