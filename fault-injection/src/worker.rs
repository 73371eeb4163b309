//! The workers of a round.

use std::future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rpc_parallel::Spawner;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bounds::START_BOUND;
use crate::event::{ProblemKind, ProcessEvent, report, report_problem};
use crate::fleet::WorkerFleet;
use crate::plan::{Fault, InitBehavior, Milestone, WorkerPlan};
use crate::{fault, launching};

#[rpc_parallel::worker]
pub(crate) trait TestWorker {
    /// Returns its argument.
    async fn echo(&self, bytes: Bytes) -> Bytes;

    /// Never returns.
    async fn wait_forever(&self);

    /// Blocks the worker's thread.
    async fn block_thread(&self, time: Duration);

    /// Streams all natural numbers.
    async fn numbers(&self) -> Pipe<u64>;

    /// Adds up the numbers.
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, PipeError>;

    /// Calls another worker repeatedly.
    async fn call_peer(&self, peer: Worker<TestState>) -> Result<(), AnyError>;

    /// Starts workers of its own.
    async fn start_workers(&self, workers: Vec<WorkerPlan>);

    /// Stops its workers, and reports problems to the driver.
    async fn stop_workers(&self);
}

#[derive(Default)]
pub(crate) struct TestState {
    config: TestWorkerConfig,
    /// One bit for each milestone that the worker has reached.
    reached: AtomicU8,
    fleet: Mutex<Option<WorkerFleet>>,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct TestWorkerConfig {
    /// A worker without a name reports no events.
    pub(crate) name: String,
    pub(crate) init: Option<InitBehavior>,
    pub(crate) shutdown_time: Duration,
    pub(crate) self_fault: Option<(Milestone, Fault)>,
    /// Whether the process must have the data of a snapshot.
    pub(crate) has_data: bool,
}

impl WorkerState for TestState {
    type Init = TestWorkerConfig;

    async fn init(config: TestWorkerConfig) -> Result<Self, BoxError> {
        let state = Self { config, ..Self::default() };
        state.reach(Milestone::Init);
        let TestWorkerConfig { name, has_data, .. } = &state.config;
        // A server without a name runs in a process of another worker.
        if !name.is_empty() && launching::has_data() != *has_data {
            report_problem(ProblemKind::Lost, format!("{name}: data of the snapshot is wrong"));
        }
        match state.config.init {
            None | Some(InitBehavior::Immediate) => {}
            Some(InitBehavior::Sleep(time)) => tokio::time::sleep(time).await,
            Some(InitBehavior::BlockThread(time)) => thread::sleep(time),
        }
        Ok(state)
    }

    async fn on_shutdown(&self) {
        self.reach(Milestone::Shutdown);
        tokio::time::sleep(self.config.shutdown_time).await;
    }
}

impl TestState {
    /// Returns a spawner whose starts fail in time if the new process is stopped. Heartbeats detect
    /// a stop only once the worker is ready, and a start has no time limit by default.
    pub(crate) fn bounded_spawner() -> Spawner<Self> {
        Self::spawner().spawn_timeout(START_BOUND / 2)
    }

    /// Reports a milestone the first time, and injects the planned fault into this process.
    fn reach(&self, milestone: Milestone) {
        let bit = 1 << milestone as u8;
        let before = self.reached.fetch_or(bit, Ordering::Relaxed);
        let TestWorkerConfig { name, self_fault, .. } = &self.config;
        if before & bit != 0 || name.is_empty() {
            return;
        }
        report(ProcessEvent::Reached { name: name.clone(), milestone });
        if let Some((_, fault)) = self_fault.filter(|(at, _)| *at == milestone) {
            report(ProcessEvent::SelfFault { name: name.clone(), fault });
            fault::inject_into_self(fault);
        }
    }

    fn fleet(&self) -> MutexGuard<'_, Option<WorkerFleet>> {
        self.fleet.lock().expect("no thread panics while it holds this lock")
    }
}

#[rpc_parallel::worker]
impl TestWorker for TestState {
    async fn echo(&self, bytes: Bytes) -> Bytes {
        self.reach(Milestone::Call);
        bytes
    }

    async fn wait_forever(&self) {
        self.reach(Milestone::Call);
        future::pending::<()>().await;
    }

    async fn block_thread(&self, time: Duration) {
        self.reach(Milestone::Call);
        thread::sleep(time);
    }

    async fn numbers(&self) -> Pipe<u64> {
        self.reach(Milestone::Stream);
        Pipe::from_items(0..)
    }

    async fn sum(&self, mut numbers: Pipe<u64>) -> Result<u64, PipeError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
            self.reach(Milestone::Stream);
        }
        Ok(sum)
    }

    async fn call_peer(&self, peer: Worker<TestState>) -> Result<(), AnyError> {
        self.reach(Milestone::Call);
        let client = peer.connect(()).await?;
        loop {
            client.echo(Bytes::from_static(b"hello")).await?;
        }
    }

    async fn start_workers(&self, workers: Vec<WorkerPlan>) {
        let fleet = WorkerFleet::start(workers, self.config.name.clone(), None).await;
        *self.fleet() = Some(fleet);
    }

    async fn stop_workers(&self) {
        let fleet = self.fleet().take();
        if let Some(mut fleet) = fleet {
            fleet.stop().await;
            *self.fleet() = Some(fleet);
        }
    }
}
