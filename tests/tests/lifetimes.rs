//! How long a worker lives, and how it ends when it is told to.

use std::fmt::Debug;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::poll_immediate;
use rpc_parallel::error::{CallErrorKind, ConnectErrorKind, ControlErrorKind, ExitReason};
use rpc_parallel::launch::Shutdown;
use rpc_parallel::prelude::*;
use rpc_parallel::{ControlError, Spawner, WorkerFailure};
use rpc_parallel_tests::exit_codes::{ExitCodes, telling};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::family::{LIMIT, describe};
use rpc_parallel_tests::process::{ends, ends_within, is_gone, kill, marked, stop, until};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::{Events, soon};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// A worker that takes its leave.
#[rpc_parallel::worker]
trait Guests {
    fn pid(&self) -> u32;
    async fn wait(&self);
    fn block(&self);
    /// Blocks its thread for so long.
    fn nap(&self, time: Duration);
    /// Does not die of SIGTERM from now on.
    fn ignore_termination(&self) -> Result<(), AnyError>;
    async fn happened(&self, event: &str);
    fn let_go(&self);
    /// Serves a guest in the same process.
    async fn invite(&self, manner: Manner, diary: PathBuf) -> Result<Worker<Guest>, AnyError>;
    /// Shuts another guest down.
    async fn send_away(&self, other: Worker<Guest>) -> Result<(), AnyError>;
    /// Shuts another guest down with this timeout, and returns the text of the error.
    async fn fail_to_send_away(&self, other: Worker<Guest>, timeout: Duration) -> Option<String>;
    /// Starts a guest that leaves when it is told to, and returns it.
    async fn release(&self, manner: Manner, diary: PathBuf) -> Result<Worker<Guest>, AnyError>;
}

/// What a guest does before its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Manner {
    /// It is quick.
    Polite,
    /// It waits for `let_go`.
    Talkative,
    /// It waits for ever.
    Lingers,
    /// It blocks its thread for ever.
    Sticks,
    PanicPolicy,
    /// It exits with this code, before `on_shutdown` has returned.
    Exits(i32),
    Aborts,
}

struct Guest {
    manner: Manner,
    diary: PathBuf,
    events: Events,
}

impl Guest {
    /// Writes down what happens, for the test to read when the process is gone.
    fn note(&self, what: &str) {
        let line = format!("{what} {}\n", std::process::id());
        let mut file = fs::File::options();
        let file = file.append(true).create(true).open(&self.diary).expect("it has a diary");
        std::io::Write::write_all(&mut &file, line.as_bytes()).expect("the diary takes it");
    }
}

impl WorkerState for Guest {
    type Init = (Manner, PathBuf);

    async fn init((manner, diary): (Manner, PathBuf)) -> Result<Self, BoxError> {
        Ok(Self { manner, diary, events: Events::default() })
    }

    async fn on_shutdown(&self) {
        self.note("leaves");
        self.events.note("leaves");
        match self.manner {
            Manner::Polite => tokio::time::sleep(Duration::from_millis(20)).await,
            Manner::Talkative => self.events.happened("let go").await,
            Manner::Lingers => pending::<()>().await,
            Manner::Sticks => block(),
            Manner::PanicPolicy => panic!("no good manners"),
            Manner::Exits(code) => std::process::exit(code),
            Manner::Aborts => std::process::abort(),
        }
        self.note("left");
    }
}

fn block() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

#[rpc_parallel::worker]
impl Guests for Guest {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn wait(&self) {
        pending::<()>().await;
    }

    fn block(&self) {
        block();
    }

    fn nap(&self, time: Duration) {
        thread::sleep(time);
    }

    fn ignore_termination(&self) -> Result<(), AnyError> {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::spawn(async move { while terminated.recv().await.is_some() {} });
        Ok(())
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn let_go(&self) {
        self.events.note("let go");
    }

    async fn invite(&self, manner: Manner, diary: PathBuf) -> Result<Worker<Guest>, AnyError> {
        Ok(Guest::serve((manner, diary)).await?)
    }

    async fn send_away(&self, other: Worker<Guest>) -> Result<(), AnyError> {
        other.shutdown().await?;
        Ok(())
    }

    async fn fail_to_send_away(&self, other: Worker<Guest>, timeout: Duration) -> Option<String> {
        Some(other.shutdown().timeout(timeout).await.err()?.to_string())
    }

    async fn release(&self, manner: Manner, diary: PathBuf) -> Result<Worker<Guest>, AnyError> {
        Ok(Guest::spawner().start_detached((manner, diary)).await?)
    }
}

/// What guests write down.
struct Diary(TempDir);

impl Diary {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("make a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("diary")
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn assert_left(&self, pid: u32) {
        assert_eq!(self.lines(), [format!("leaves {pid}"), format!("left {pid}")]);
    }
}

fn guest() -> Spawner<Guest> {
    Guest::spawner().name("guest")
}

async fn start(manner: Manner, diary: &Diary) -> (Worker<Guest>, GuestsClient, u32) {
    let worker = guest().start((manner, diary.path())).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    (worker, client, pid)
}

async fn spawn(manner: Manner, diary: &Diary) -> (GuestsClient, u32) {
    let client = guest().spawn((manner, diary.path())).await.expect("start a worker");
    let pid = client.pid().await.expect("call it");
    (client, pid)
}

/// Waits until another worker has lived and ended: time enough for what should not happen.
async fn meanwhile() {
    let (client, pid) = spawn(Manner::Polite, &Diary::new()).await;
    drop(client);
    assert!(ends(pid).await, "nobody can call it any more");
}

#[rpc_parallel::test]
async fn a_spawned_worker_ends_with_its_owning_connection_and_takes_its_leave() {
    let diary = Diary::new();

    let (client, pid) = spawn(Manner::Polite, &diary).await;
    drop(client);
    assert!(ends(pid).await, "nobody can call it any more");
    diary.assert_left(pid);

    let (client, pid) = spawn(Manner::Polite, &Diary::new()).await;
    client.close();
    assert!(ends(pid).await, "nobody can call it any more");
}

#[rpc_parallel::test]
async fn a_worker_may_have_all_the_time_there_is() {
    let diary = Diary::new();
    let patient = guest().connect_timeout(Duration::MAX).init_timeout(Duration::MAX);
    let spawning = patient.spawn_timeout(Duration::MAX).spawn((Manner::Polite, diary.path()));
    let client = soon(spawning).await.expect("start a worker");

    let ended = soon(client.shutdown().timeout(Duration::MAX)).await;

    ended.expect("it ends in order");
    // Who watches over workers is still there.
    meanwhile().await;
}

#[rpc_parallel::test]
async fn who_was_given_time_to_end_keeps_it_when_its_owner_goes() {
    let diary = Diary::new();
    let (client, pid) = spawn(Manner::Polite, &diary).await;
    let nap = client.nap(Duration::from_secs(2)).timeout(Duration::from_millis(50)).await;
    nap.expect_err("it sleeps");

    let mut ending = client.shutdown().timeout(Duration::from_secs(60));
    assert!(poll_immediate(&mut ending).await.is_none(), "it has begun");
    drop((ending, client));

    assert!(ends(pid).await, "it was told to");
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn a_spawned_worker_ends_with_code_0_whoever_else_is_connected_to_its_process() {
    let (own, other, codes) = (Diary::new(), Diary::new(), ExitCodes::new());
    let spawner = guest().launcher(telling(&codes.path()));
    let client = spawner.spawn((Manner::Polite, own.path())).await.expect("start a worker");
    let pid = client.pid().await.expect("call it");
    let invited = client.invite(Manner::Polite, other.path()).await.expect("call it");
    let visiting = invited.connect(()).await.expect("connect to it");
    assert_eq!(visiting.pid().await, Ok(pid));

    drop(client);

    assert_eq!(codes.next().await, 0);
    soon(visiting.closed()).await;
    own.assert_left(pid);
}

#[rpc_parallel::test]
async fn a_started_worker_ends_with_a_code_that_tells_how_its_master_did() {
    for (killed, code) in [(true, 254), (false, 0)] {
        let codes = ExitCodes::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_started"));
        let mut master = Program::start(command.arg(codes.path()));
        assert_eq!(master.line(), "ready");

        if killed {
            master.kill();
        } else {
            master.tell("return");
        }

        assert_eq!(codes.next().await, code, "killed: {killed}");
    }
}

#[rpc_parallel::test]
async fn a_started_worker_needs_neither_its_handle_nor_a_connection() {
    let (worker, client, pid) = start(Manner::Polite, &Diary::new()).await;

    drop((worker, client));
    meanwhile().await;

    assert!(!is_gone(pid), "it lives with its master");
    kill(pid);
}

#[rpc_parallel::test]
async fn a_worker_that_nobody_can_reach_any_more_takes_its_leave() {
    let diary = Diary::new();
    let (_, client, pid) = start(Manner::Polite, &diary).await;

    client.close_server().await.expect("call it");
    meanwhile().await;
    assert!(!is_gone(pid), "somebody still talks to it");
    drop(client);

    assert!(ends(pid).await, "nobody can reach it");
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn shutdown_resolves_after_process_has_exited() {
    let diary = Diary::new();
    let (worker, client, pid) = start(Manner::Polite, &diary).await;
    let waiting = tokio::spawn(client.wait());

    soon(worker.shutdown()).await.expect("it ends in order");

    assert!(is_gone(pid), "{}", describe(pid));
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "not even a zombie is left");
    diary.assert_left(pid);
    soon(waiting).await.expect("no panic").expect_err("it does not answer");
    let error = soon(worker.connect(())).await.expect_err("it has ended");
    assert!(matches!(error.kind(), ConnectErrorKind::NoSuchWorker), "{error}");
}

#[rpc_parallel::test]
async fn a_shutdown_is_asked_for_by_any_client_too() {
    let diary = Diary::new();
    let (client, pid) = spawn(Manner::Polite, &diary).await;

    soon(client.shutdown()).await.expect("it ends in order");

    assert!(is_gone(pid), "{}", describe(pid));
    diary.assert_left(pid);
    soon(client.wait()).await.expect_err("it has ended");
}

#[rpc_parallel::test]
async fn a_shutdown_begins_when_it_is_awaited_and_goes_on_when_it_is_dropped() {
    let diary = Diary::new();
    let (worker, client, pid) = start(Manner::Talkative, &diary).await;

    drop(worker.shutdown());
    meanwhile().await;
    assert_eq!(client.pid().await, Ok(pid));
    let shutdown = worker.shutdown().timeout(Duration::from_secs(100));
    tokio::select! {
        biased;
        ended = shutdown => panic!("{ended:?}"),
        happened = soon(client.happened("leaves")) => happened.expect("call it"),
    }
    client.let_go().await.expect("call it");

    assert!(ends(pid).await, "it was told to");
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn a_shutdown_leaves_ten_seconds_if_nothing_else_is_said() {
    let (worker, client, _) = start(Manner::Polite, &Diary::new()).await;

    for (shutdown, within) in [
        (worker.shutdown(), "10s"),
        (client.shutdown(), "10s"),
        (worker.shutdown().timeout(Duration::from_secs(3)), "3s"),
    ] {
        assert_eq!(format!("{shutdown:?}"), format!("Shutdown {{ within: {within}, .. }}"));
    }
}

#[rpc_parallel::test]
async fn functions_go_on_while_a_worker_takes_its_leave() {
    let diary = Diary::new();
    let (worker, client, pid) = start(Manner::Talkative, &diary).await;
    let waiting = tokio::spawn(client.happened("let go"));
    let leaving = tokio::spawn(worker.shutdown());

    soon(client.happened("leaves")).await.expect("call it");
    client.let_go().await.expect("call it");

    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
    soon(leaving).await.expect("no panic").expect("it ends in order");
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn who_asks_for_the_same_end_gets_the_same_answer() {
    let diary = Diary::new();
    let (worker, client, pid) = start(Manner::Polite, &diary).await;

    let (one, other, third) = tokio::join!(worker.shutdown(), client.shutdown(), worker.shutdown());

    for ended in [one, other, third] {
        ended.expect("it ends in order");
    }
    diary.assert_left(pid);
}

/// How much later than it should a thing may happen here.
const LATE: Duration = Duration::from_secs(10);

/// How long after the timeout the master sends `SIGTERM` to a worker that has begun its end, and how
/// long after that `SIGKILL`.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// How long the guests that do not leave may take.
const PATIENCE: Duration = Duration::from_millis(300);

/// Shuts a worker down that does not end in time, and returns its exit reason, and how long after
/// the timeout its process had exited. It is no failure.
async fn shut_down_in_vain(
    manner: Manner,
    prepare: impl AsyncFnOnce(&GuestsClient),
) -> (ExitReason, Duration) {
    let (diary, failures) = (Diary::new(), Failures::default());
    let spawner = guest().on_failure(failures.note());
    let worker = spawner.start((manner, diary.path())).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    prepare(&client).await;

    let began = Instant::now();
    let ended = soon(worker.shutdown().timeout(PATIENCE)).await;
    let took = began.elapsed();

    let error = ended.expect_err("it does not end in time");
    let ControlErrorKind::ForcedShutdown { within, failure } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*within, PATIENCE);
    assert!(error.to_string().contains("not done within 300ms: its process "), "{error}");
    assert!(took >= PATIENCE && took < PATIENCE + LATE, "{took:?}");
    assert!(is_gone(pid), "{}", describe(pid));
    assert!(!diary.lines().iter().any(|it| it.starts_with("left")), "{:?}", diary.lines());
    meanwhile().await;
    assert_eq!(failures.list(), []);
    (failure.as_ref().expect("this process started it").exit_reason(), took - PATIENCE)
}

#[rpc_parallel::test]
async fn on_shutdown_waiting_past_timeout_exits_with_code_1() {
    // The master gives the worker half a second to notice before it sends `SIGTERM`.
    for _ in 0..5 {
        let (exit_reason, _) = shut_down_in_vain(Manner::Lingers, async |_| {}).await;

        assert_eq!(exit_reason, ExitReason::Exited(1));
    }
}

#[rpc_parallel::test]
async fn a_worker_that_blocks_in_its_leave_is_ended_by_sigterm() {
    let (exit_reason, late) = shut_down_in_vain(Manner::Sticks, async |_| {}).await;

    let signal = Signal::TERM.as_raw();
    assert_eq!(exit_reason, ExitReason::Signaled { signal, core_dumped: false });
    assert!(late >= HALF_A_SECOND, "{late:?}");
}

#[rpc_parallel::test]
async fn a_worker_that_blocks_in_a_function_is_ended_by_sigterm() {
    let (exit_reason, _) = shut_down_in_vain(Manner::Polite, async |client| {
        let late = client.block().timeout(Duration::from_millis(50)).await;
        late.expect_err("it blocks");
    })
    .await;

    let signal = Signal::TERM.as_raw();
    assert_eq!(exit_reason, ExitReason::Signaled { signal, core_dumped: false });
}

#[rpc_parallel::test]
async fn a_worker_that_does_not_die_of_sigterm_is_killed() {
    let (exit_reason, late) = shut_down_in_vain(Manner::Sticks, async |client| {
        client.ignore_termination().await.expect("call it");
    })
    .await;

    let signal = Signal::KILL.as_raw();
    assert_eq!(exit_reason, ExitReason::Signaled { signal, core_dumped: false });
    assert!(late >= 2 * HALF_A_SECOND, "{late:?}");
}

#[rpc_parallel::test]
async fn a_worker_that_is_stopped_is_killed() {
    let (exit_reason, _) = shut_down_in_vain(Manner::Polite, async |client| {
        stop(client.pid().await.expect("call it"));
    })
    .await;

    let signal = Signal::KILL.as_raw();
    assert_eq!(exit_reason, ExitReason::Signaled { signal, core_dumped: false });
}

/// Returns the failure report of a shutdown that did not end in order.
#[track_caller]
fn died<T: Debug>(ended: Result<T, ControlError>) -> WorkerFailure {
    let error = ended.expect_err("the end is not orderly");
    let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    failure.clone()
}

const KILLED: ExitReason = ExitReason::Signaled { signal: 9, core_dumped: false };

#[track_caller]
fn assert_panicked_in_on_shutdown(failure: &WorkerFailure) {
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{failure}");
    let panic = failure.panic().expect("it is a panic");
    assert_eq!(panic.message, "no good manners");
    let location = panic.location.as_deref().expect("the hook is installed");
    assert!(location.contains("lifetimes.rs:"), "{location}");
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_is_error_and_failure() {
    let (diary, failures) = (Diary::new(), Failures::default());
    let spawner = guest().on_failure(failures.note());
    let worker = spawner.start((Manner::PanicPolicy, diary.path())).await.expect("start a worker");

    let failure = died(soon(worker.shutdown()).await);
    meanwhile().await;

    assert_panicked_in_on_shutdown(&failure);
    assert_eq!(failures.first().await, failure);
    assert_eq!(diary.lines().len(), 1, "{:?}", diary.lines());
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_after_last_client_is_failure() {
    let (diary, failures) = (Diary::new(), Failures::default());
    let spawner = guest().on_failure(failures.note());
    let client = spawner.spawn((Manner::PanicPolicy, diary.path())).await.expect("start a worker");

    drop(client);

    assert_panicked_in_on_shutdown(&failures.first().await);
    meanwhile().await;
    assert_eq!(failures.list().len(), 1);
}

#[rpc_parallel::test]
async fn panic_in_on_shutdown_of_one_server_does_not_skip_others() {
    let (own, other) = (Diary::new(), Diary::new());
    let (worker, client, pid) = start(Manner::Polite, &own).await;
    client.invite(Manner::PanicPolicy, other.path()).await.expect("call it");

    let failure = died(soon(worker.shutdown()).await);

    assert_panicked_in_on_shutdown(&failure);
    own.assert_left(pid);
}

#[rpc_parallel::test]
async fn exit_within_on_shutdown_is_error_and_failure() {
    for manner in [Manner::Exits(5), Manner::Exits(1), Manner::Exits(0), Manner::Aborts] {
        let (diary, failures) = (Diary::new(), Failures::default());
        let spawner = guest().on_failure(failures.note());
        let worker = spawner.start((manner, diary.path())).await.expect("start a worker");

        let failure = died(soon(worker.shutdown()).await);

        match (manner, failure.exit_reason()) {
            (Manner::Exits(code), ExitReason::Exited(exited)) => assert_eq!(exited, code),
            (Manner::Aborts, ExitReason::Signaled { signal: 6, .. }) => {}
            (manner, exit_reason) => panic!("{manner:?}: {exit_reason}"),
        }
        assert_eq!(failures.first().await, failure);
    }
}

#[rpc_parallel::test]
async fn foreign_sigkill_right_before_shutdown_is_error_and_failure() {
    for _ in 0..20 {
        let (diary, failures) = (Diary::new(), Failures::default());
        let spawner = guest().on_failure(failures.note());
        let worker = spawner.start((Manner::Polite, diary.path())).await.expect("start a worker");
        let pid = worker.label().pid().expect("it is a process of this host");

        kill(pid);
        let ended = soon(worker.shutdown()).await;

        let failure = died(ended);
        assert_eq!(failure.exit_reason(), KILLED);
        assert_eq!(failures.first().await, failure);
    }
}

#[rpc_parallel::test]
async fn foreign_sigkill_right_before_dropping_last_client_is_failure() {
    for _ in 0..20 {
        let (diary, failures) = (Diary::new(), Failures::default());
        let spawner = guest().on_failure(failures.note());
        let client = spawner.spawn((Manner::Polite, diary.path())).await.expect("start a worker");

        kill(client.label().pid().expect("it is a process of this host"));
        drop(client);

        assert_eq!(failures.first().await.exit_reason(), KILLED);
    }
}

/// Begins to shut a worker down, waits until its `on_shutdown` runs, and kills it.
async fn kill_in_on_shutdown(client: &GuestsClient, shutdown: Shutdown) -> WorkerFailure {
    let shutdown = tokio::spawn(shutdown.timeout(LIMIT));
    soon(client.happened("leaves")).await.expect("call it");
    kill(client.label().pid().expect("it is a process of this host"));
    died(soon(shutdown).await.expect("no panic"))
}

#[rpc_parallel::test]
async fn foreign_sigkill_in_on_shutdown_is_error_and_failure() {
    let (diary, failures) = (Diary::new(), Failures::default());
    let spawner = guest().on_failure(failures.note());
    let worker = spawner.start((Manner::Talkative, diary.path())).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");

    let failure = kill_in_on_shutdown(&client, worker.shutdown()).await;

    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(failures.first().await, failure);
}

#[rpc_parallel::test]
async fn worker_killed_in_on_shutdown_is_not_restarted() {
    let (diary, failures) = (Diary::new(), Failures::default());
    let at_once = Duration::from_millis(1);
    let restart = RestartPolicy::on_failure().backoff(at_once..=at_once);
    let spawner = guest().restart(restart).on_failure(failures.note());
    let init = (Manner::Talkative, diary.path());
    let client = spawner.clone().spawn(init.clone()).await.expect("start a worker");
    let worker = spawner.start(init).await.expect("start a worker");
    let other = worker.connect(()).await.expect("connect to it");

    kill_in_on_shutdown(&client, client.shutdown()).await;
    kill_in_on_shutdown(&other, worker.shutdown()).await;

    for client in [client, other] {
        let kind = soon(client.closed()).await;
        assert!(matches!(kind, CallErrorKind::WorkerDied(_)), "{kind}");
        soon(client.pid()).await.expect_err("no process replaces it");
    }
    meanwhile().await;
    assert_eq!(failures.deaths(), [KILLED; 2]);
}

#[rpc_parallel::test]
async fn worker_ended_after_timeout_by_other_process_is_no_failure() {
    for manner in [Manner::Lingers, Manner::Sticks] {
        let (diary, failures) = (Diary::new(), Failures::default());
        let spawner = guest().on_failure(failures.note());
        let worker = spawner.start((manner, diary.path())).await.expect("start a worker");
        let pid = worker.label().pid().expect("it is a process of this host");
        let (other, _) = spawn(Manner::Polite, &Diary::new()).await;

        let error = soon(other.fail_to_send_away(worker, PATIENCE)).await.expect("call it");

        // Its exit reason is known only to the process that started it.
        assert_eq!(error, None);
        assert!(is_gone(pid), "{}", describe(pid));
        meanwhile().await;
        assert_eq!(failures.list(), []);
    }
}

#[rpc_parallel::test]
async fn a_worker_that_is_killed_takes_no_leave() {
    let diary = Diary::new();
    let (_, _, pid) = start(Manner::Polite, &diary).await;

    kill(pid);

    assert!(ends(pid).await, "it was killed");
    assert_eq!(diary.lines(), [] as [String; 0]);
}

#[rpc_parallel::test]
async fn all_that_a_process_serves_takes_its_leave_with_it() {
    let (own, other) = (Diary::new(), Diary::new());
    let (worker, client, pid) = start(Manner::Polite, &own).await;
    let invited = client.invite(Manner::Polite, other.path()).await.expect("call it");
    let visiting = invited.connect(()).await.expect("connect to it");
    assert_eq!(visiting.pid().await, Ok(pid));

    soon(worker.shutdown()).await.expect("it ends in order");

    own.assert_left(pid);
    other.assert_left(pid);
}

#[rpc_parallel::test]
async fn what_is_served_in_this_process_has_no_end_of_its_own() {
    let diary = Diary::new();
    let served = Guest::serve((Manner::Polite, diary.path())).await.expect("serve it");
    let client = served.connect(()).await.expect("connect to it");

    for refused in [soon(served.shutdown()).await, soon(client.shutdown()).await] {
        let error = refused.expect_err("this process does not end");
        assert!(matches!(error.kind(), ControlErrorKind::NoProcessOfItsOwn), "{error}");
        assert!(error.to_string().contains("close_server"), "{error}");
    }
    assert_eq!(client.pid().await, Ok(std::process::id()));
}

#[rpc_parallel::test]
async fn a_shutdown_of_a_dead_worker_is_an_error_that_tells_how_it_died() {
    let (worker, client, pid) = start(Manner::Polite, &Diary::new()).await;
    kill(pid);
    // It is dead, and its master knows.
    soon(client.closed()).await;

    for refused in [soon(worker.shutdown()).await, soon(client.shutdown()).await] {
        let error = refused.expect_err("it is dead");

        let ControlErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        let signal = Signal::KILL.as_raw();
        assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal, core_dumped: false });
        assert_eq!(error.worker(), worker.label());
        let text = error.to_string();
        assert!(text.starts_with("failed to shut down worker `guest` ("), "{text}");
        assert!(text.contains("): its process was killed by signal 9 (SIGKILL) after "), "{text}");
    }
}

#[rpc_parallel::test]
async fn a_process_that_did_not_start_a_worker_shuts_it_down_as_well() {
    let diary = Diary::new();
    let (worker, _, pid) = start(Manner::Polite, &diary).await;
    let (other, _) = spawn(Manner::Polite, &Diary::new()).await;

    soon(other.send_away(worker.clone())).await.expect("it ends");

    assert!(is_gone(pid), "{}", describe(pid));
    diary.assert_left(pid);
    let again = soon(other.send_away(worker)).await;
    again.expect_err("it is dead");
}

#[rpc_parallel::test]
async fn a_worker_shuts_itself_down() {
    let diary = Diary::new();
    let (worker, client, pid) = start(Manner::Polite, &diary).await;

    let error = soon(client.send_away(worker)).await.expect_err("it does not survive the answer");

    let FunctionError::Call(error) = error else { panic!("{error}") };
    let kind = error.kind();
    assert!(
        matches!(kind, CallErrorKind::WorkerDied(_) | CallErrorKind::ConnectionLost { .. }),
        "{error}"
    );
    assert!(ends(pid).await, "it was told to");
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn a_detached_worker_outlives_a_master_that_is_killed() {
    let diary = Diary::new();
    let (master, master_pid) = spawn(Manner::Polite, &Diary::new()).await;
    let released = master.release(Manner::Polite, diary.path()).await.expect("call it");
    let client = released.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");

    kill(master_pid);
    assert!(ends(master_pid).await, "it was killed");
    meanwhile().await;

    assert_eq!(soon(client.pid()).await, Ok(pid));
    let again = soon(released.connect(())).await.expect("connect to it");
    assert_eq!(soon(again.pid()).await, Ok(pid));
    soon(released.shutdown()).await.expect("it lives");
    assert!(is_gone(pid), "{}", describe(pid));
    diary.assert_left(pid);
}

#[rpc_parallel::test]
async fn a_detached_worker_outlives_a_master_that_ends_in_order() {
    let diary = Diary::new();
    let (master, master_pid) = spawn(Manner::Polite, &Diary::new()).await;
    let released = master.release(Manner::Polite, diary.path()).await.expect("call it");

    drop(master);
    assert!(ends(master_pid).await, "nobody can call it any more");

    let client = soon(released.connect(())).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    client.close_server().await.expect("call it");
    drop(client);
    assert!(ends(pid).await, "nobody can reach it any more");
    diary.assert_left(pid);
}

#[test]
fn a_detached_worker_whose_master_is_killed_before_it_has_the_handle_ends_too() {
    let (variable, value) = ("RELEASED_BY", format!("{}-release", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_watcher"));
    let master = Program::start(command.arg("release").env(variable, &value));
    let mut worker = || {
        let others = marked(variable, &value).into_iter().filter(|it| *it != master.pid());
        others.into_iter().find(|it| has_thread(*it, "rpc-parallel co"))
    };
    let worker = until(&mut worker).expect("it serves soon");

    kill(master.pid());

    assert!(ends_within(worker, LIMIT), "{}", describe(worker));
}

/// Says whether a process has a thread of this name, as far as the kernel keeps it.
fn has_thread(pid: u32, name: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let names = threads.flatten().flat_map(|it| fs::read_to_string(it.path().join("comm")));
    names.into_iter().any(|it| it.trim_end() == name)
}

/// Releases a worker whose master is killed, has it made unable to take notice, and shuts it down.
async fn shut_down_an_orphan(manner: Manner, prepare: impl AsyncFnOnce(&GuestsClient, u32)) {
    let diary = Diary::new();
    let (master, master_pid) = spawn(Manner::Polite, &Diary::new()).await;
    let released = master.release(manner, diary.path()).await.expect("call it");
    let client = released.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    kill(master_pid);
    assert!(ends(master_pid).await, "it was killed");

    prepare(&client, pid).await;
    let ended = soon(released.shutdown().timeout(Duration::from_millis(200))).await;

    let error = ended.expect_err("this process ends it by a signal");
    let ControlErrorKind::ForcedShutdown { failure: None, .. } = error.kind() else {
        panic!("{error}")
    };
    assert!(is_gone(pid), "{}", describe(pid));
}

#[rpc_parallel::test]
async fn a_detached_worker_that_blocks_is_ended_by_whoever_tells_it_to_end() {
    shut_down_an_orphan(Manner::Polite, async |client, _| {
        let late = client.block().timeout(Duration::from_millis(50)).await;
        late.expect_err("it blocks");
    })
    .await;
}

#[rpc_parallel::test]
async fn a_detached_worker_that_is_stopped_is_ended_by_whoever_tells_it_to_end() {
    shut_down_an_orphan(Manner::Polite, async |_, pid| stop(pid)).await;
}

#[rpc_parallel::test]
async fn a_detached_worker_that_blocks_in_its_leave_is_ended_by_whoever_tells_it_to_end() {
    shut_down_an_orphan(Manner::Sticks, async |_, _| {}).await;
}

/// Runs `detached` with this file, for so long as it has something to say.
fn detached(what: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_detached"));
    command.arg(what).arg(file).env("TMPDIR", file.parent().expect("it is in a directory"));
    command
}

#[test]
fn a_detached_worker_is_reached_by_a_handle_in_a_file_and_ends_when_it_is_told() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("handle");
    let mut master = Program::start(&mut detached("start", &file));
    let [pid] = master.numbers()[..] else { panic!("one process") };
    master.kill();
    assert!(ends_within(master.pid(), LIMIT), "it was killed");

    // It still writes to the stderr that it has from its master.
    for _ in 0..3 {
        let called = Program::run(&mut detached("call", &file));
        assert_eq!(called.stdout, [pid.to_string()], "{called:?}");
    }
    let told = Program::run(&mut detached("shutdown", &file));

    assert_eq!(told.stdout, ["it has ended"], "{told:?}");
    assert!(is_gone(pid), "{}", describe(pid));
    let late = Program::run(&mut detached("call", &file));
    assert!(!late.status.success() && late.stderr.contains("it has ended"), "{late:?}");
    let left = fs::read_dir(directory.path()).expect("it is there");
    let left: Vec<_> = left.filter_map(|it| Some(it.ok()?.file_name())).collect();
    assert_eq!(left, ["handle"]);
}
