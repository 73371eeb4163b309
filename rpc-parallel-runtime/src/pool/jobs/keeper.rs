//! The keeper: the worker server in the top process that starts jobs and keeps their results.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::end::JobEnd;
use super::protocol::{Detach, Join, KeeperClient, PLACE, Start, TRAIT_NAME, TryJoin};
use super::run_directory::run_directory_variable;
use super::running::{EndOrder, RunningJob, RunningJobs};
use super::start_error::StartJobError;
use super::table::{Claim, Gone, JobTable};
use crate::connection::{Call, FunctionError, Opening, diagnose, fallible, task};
use crate::launch::{Children, Role, Started};
use crate::pool::background::runtime;
use crate::pool::process::process_spawner;
use crate::pool::race::{Either, race};
use crate::transport::split;
use crate::wire::{
    BusyPoll, FunctionId, Settings, Sink, WorkerId, WorkerLabel, encode, encoded_codec,
};
use crate::worker::{
    AcceptJobs, BoxError, Dispatch, OneWorkerTraitPerType, Servers, Table, WorkerClient,
    WorkerState, WorkerType, asynchronous, boxed, connection_task, find_process, synchronous,
};

/// The state of the keeper.
pub(super) struct Keeper {
    table: Arc<Mutex<JobTable>>,
}

const WORKER_TYPE: &WorkerType = &WorkerType::new::<Keeper>("Jobs", TRAIT_NAME, PLACE);

impl WorkerState for Keeper {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let table = JobTable::new(settings().kept_job_results());
        Ok(Self { table: Arc::new(Mutex::new(table)) })
    }
}

impl OneWorkerTraitPerType for Keeper {
    type Itself = Self;
    type Client = KeeperClient;
    const WORKER_TYPE: &'static WorkerType = WORKER_TYPE;
}

impl Dispatch<Keeper> for KeeperClient {
    const TABLE: Table<Keeper, Self> = &[
        &asynchronous::<Self, Start, Keeper>(|scope, (function, arguments, timeout)| {
            boxed(
                async move { scope.state().start(FunctionId(function), arguments, timeout).await },
            )
        }),
        &asynchronous::<Self, Join, Keeper>(|scope, (number,)| {
            boxed(async move { scope.state().join(number).await })
        }),
        &synchronous::<Self, TryJoin, Keeper>(|scope, (number,)| {
            lock(&scope.state().table).try_take(number)
        }),
        &synchronous::<Self, Detach, Keeper>(|scope, (number,)| {
            lock(&scope.state().table).detach(number)
        }),
    ];
}

impl Keeper {
    /// Starts a job, and returns its number when its process has started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready ends the process.
    async fn start(
        &self,
        function: FunctionId,
        arguments: Bytes,
        timeout: Option<Duration>,
    ) -> Result<u64, StartJobError> {
        let not_started = |why| StartJobError::NotStarted { why };
        let Some(handle) = find_process(function) else {
            return Err(not_started(format!("the program has no process function {function}")));
        };
        let function = handle.info();
        let Some(running) = RunningJobs::get().begin() else {
            return Err(not_started("the program is ending".to_owned()));
        };
        let mut spawner = process_spawner(function.name());
        if let Some((name, value)) = run_directory_variable() {
            spawner = spawner.env(name, value);
        }
        let spawned = spawner.spawn(()).await;
        let client = spawned.map_err(|error| not_started(error.to_string()))?;
        let answer = fallible::<Result<Bytes, Bytes>>(encoded_codec(), encoded_codec());
        let call = Call::new(client.client(), function, answer, |sink| {
            (encoded_codec().encode)(&arguments, sink)
        });
        // A job has more time than the process that has asked for it.
        let call = call.without_inherited_deadline();
        let table = self.table.clone();
        let number = lock(&table).insert();
        // Owner: the runtime of the keeper. The task ends with the process of the job.
        tokio::spawn(task(async move {
            let started = Children::get().find(client.worker_id());
            let end = end_of(call, &running, started.as_deref(), timeout).await;
            lock(&table).end(number, end);
            // The process lives until its result is stored.
            drop(client);
            if let Some(started) = started {
                started.end().await;
            }
            drop(running);
        }));
        Ok(number)
    }

    /// Waits for the end of a job.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the result to the next join.
    async fn join(&self, number: u64) -> Result<JobEnd, Gone> {
        let claim = lock(&self.table).claim(number)?;
        match claim {
            Claim::Ended(end) => Ok(end),
            // The sender is dropped without a result if a later join takes the claim, which happens
            // only after this future was dropped.
            Claim::Running(end) => end.await.map_err(|_| Gone::Joined),
        }
    }
}

/// Waits for the result of a job, or ends the job. A process that is not killed ends when its client
/// is dropped.
async fn end_of(
    call: Call<Bytes, FunctionError<Bytes>>,
    running: &RunningJob,
    process: Option<&Started>,
    timeout: Option<Duration>,
) -> JobEnd {
    let kill = || process.into_iter().for_each(Started::kill_now);
    match race(call, race(running.order(), expiry(timeout))).await {
        Either::First(result) => JobEnd::of(result),
        Either::Second(Either::First(EndOrder::Cancel)) => {
            JobEnd::Failed { why: "it was cancelled, because the program ended".to_owned() }
        }
        Either::Second(Either::First(EndOrder::Kill)) => {
            kill();
            JobEnd::Failed { why: "it was killed, because the program ended".to_owned() }
        }
        Either::Second(Either::Second(after)) => {
            kill();
            JobEnd::TimedOut { after }
        }
    }
}

/// Waits until the timeout has passed, if there is one.
async fn expiry(timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(after) => {
            sleep(after).await;
            after
        }
        None => pending().await,
    }
}

fn lock(table: &Mutex<JobTable>) -> MutexGuard<'_, JobTable> {
    table.lock().expect("no code panics while it holds this lock")
}

/// Accepts connections to the keeper. The registrations of process functions pass this function to
/// the layers below.
#[doc(hidden)]
pub const ACCEPT_JOBS: AcceptJobs = AcceptJobs(accept);

/// Serves a connection to the keeper on the runtime of the program.
fn accept(id: WorkerId, socket: OwnedFd) {
    // Without a runtime the socket is closed, and the other process gets an error.
    if let Ok(runtime) = runtime() {
        // Owner: the runtime. The task ends when the other process closes the connection.
        runtime.spawn(task(serve(id, socket)));
    }
}

async fn serve(id: WorkerId, socket: OwnedFd) {
    static STARTED: OnceCell<()> = OnceCell::const_new();
    STARTED.get_or_init(|| start_keeper(id)).await;
    match split(socket, BusyPoll::Never) {
        Ok(halves) => connection_task(Opening::new(halves, settings())).await,
        Err(error) => diagnose(format_args!("failed to open a connection for jobs: {error}")),
    }
}

async fn start_keeper(id: WorkerId) {
    let mut init = Vec::new();
    let label = WorkerLabel::here(None, WORKER_TYPE.path());
    encode(&(), &mut Sink::new(&mut init, 8)).expect("the value is one byte");
    let started = (WORKER_TYPE.start)(id, label, init).await;
    let keeper = started.unwrap_or_else(|_| unreachable!("`init` of the keeper does not fail"));
    Servers::get().insert(id, keeper);
}

fn settings() -> Settings {
    Role::spawn_defaults().map(|it| it.settings).unwrap_or_default()
}
