//! Exhausted descriptors or processes: starts and connections fail with the cause, and existing
//! workers and connections keep working.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;

use futures_util::future::join_all;
use rpc_parallel::SpawnError;
use rpc_parallel::error::{ConnectErrorKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{descriptors_and_threads, ends};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::soon;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

/// A worker that lowers its own limit of descriptors and starts other workers.
#[rpc_parallel::worker]
trait Limited {
    fn pid(&self) -> u32;
    /// Allows this process this many descriptors more than it has open.
    fn leave_descriptors(&self, count: usize);
    /// The same, without lowering the hard limit. Returns the soft limit.
    fn leave_descriptors_softly(&self, count: usize) -> u64;
    /// Returns the soft and the hard limit of descriptors.
    fn descriptor_limits(&self) -> [Option<u64>; 2];
    /// Starts a worker and returns these limits of it.
    async fn limits_of_new_worker(&self) -> Result<[Option<u64>; 2], AnyError>;
    /// Opens files until no descriptor is left.
    fn exhaust_descriptors(&self);
    /// Closes those files and drops all clients.
    fn free_descriptors(&self);
    /// Starts workers until that fails, and returns their number and the error.
    async fn start_until_error(&self) -> (usize, String);
    /// Calls all workers that this process has started, and returns the number of answers.
    async fn call_all(&self) -> usize;
    async fn start_one(&self) -> Result<u32, AnyError>;
    async fn connect_to(&self, other: Worker<LimitedWorker>) -> Result<u32, AnyError>;
    /// Waits until `end_waiting` is called.
    async fn wait(&self);
    fn end_waiting(&self);
    fn endless_numbers(&self) -> Pipe<u64>;
    fn length(&self, bytes: Vec<u8>) -> usize;
    /// Returns [`MANY`] bytes.
    fn many_bytes(&self) -> Vec<u8>;
    /// Starts the worker for `send_many_bytes`.
    async fn start_kept(&self) -> Result<(), AnyError>;
    /// Sends [`MANY`] bytes to a worker, and returns how many arrive.
    async fn send_many_bytes(&self) -> Result<usize, AnyError>;
}

/// More bytes than the buffers of a socket hold.
const MANY: usize = 4_000_000;

#[derive(Default, WorkerState)]
struct LimitedWorker {
    files: Mutex<Vec<File>>,
    workers: Mutex<Vec<LimitedClient>>,
    waited: watch::Sender<bool>,
}

impl LimitedWorker {
    fn workers(&self) -> Vec<LimitedClient> {
        self.workers.lock().expect("no thread panics with the lock").clone()
    }

    fn keep(&self, worker: LimitedClient) {
        self.workers.lock().expect("no thread panics with the lock").push(worker);
    }
}

/// Returns the system's error if the process could not be started.
fn cause(error: &SpawnError) -> String {
    match error.kind() {
        SpawnErrorKind::Process { source, .. } => source.to_string(),
        _ => error.to_string(),
    }
}

#[rpc_parallel::worker]
impl Limited for LimitedWorker {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn leave_descriptors(&self, count: usize) {
        let (used, _) = descriptors_and_threads().expect("read /proc");
        let current = Some((used + count) as u64);
        // With a higher hard limit, the starts of workers raise the soft one.
        let lowered = setrlimit(Resource::Nofile, Rlimit { current, maximum: current });
        lowered.expect("the limit is below the maximum");
    }

    fn leave_descriptors_softly(&self, count: usize) -> u64 {
        let (used, _) = descriptors_and_threads().expect("read /proc");
        let soft = (used + count) as u64;
        let limit = Rlimit { current: Some(soft), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).expect("the limit is below the maximum");
        soft
    }

    fn descriptor_limits(&self) -> [Option<u64>; 2] {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        [current, maximum]
    }

    async fn limits_of_new_worker(&self) -> Result<[Option<u64>; 2], AnyError> {
        Ok(LimitedWorker::spawn(()).await?.descriptor_limits().await?)
    }

    fn exhaust_descriptors(&self) {
        let files = std::iter::from_fn(|| File::open("/dev/null").ok());
        self.files.lock().expect("no thread panics with the lock").extend(files);
    }

    fn free_descriptors(&self) {
        self.files.lock().expect("no thread panics with the lock").clear();
        self.workers.lock().expect("no thread panics with the lock").clear();
    }

    async fn start_until_error(&self) -> (usize, String) {
        loop {
            match LimitedWorker::spawn(()).await {
                Ok(worker) => self.keep(worker),
                Err(error) => return (self.workers().len(), cause(&error)),
            }
        }
    }

    async fn call_all(&self) -> usize {
        let workers = self.workers();
        let answers = join_all(workers.iter().map(LimitedClient::pid)).await;
        answers.into_iter().filter(Result::is_ok).count()
    }

    async fn start_one(&self) -> Result<u32, AnyError> {
        Ok(LimitedWorker::spawn(()).await?.pid().await?)
    }

    async fn connect_to(&self, other: Worker<LimitedWorker>) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.pid().await?)
    }

    async fn wait(&self) {
        let mut waited = self.waited.subscribe();
        waited.wait_for(|it| *it).await.expect("`self` holds the sender");
    }

    fn end_waiting(&self) {
        self.waited.send_replace(true);
    }

    fn endless_numbers(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn length(&self, bytes: Vec<u8>) -> usize {
        bytes.len()
    }

    fn many_bytes(&self) -> Vec<u8> {
        vec![7; MANY]
    }

    async fn start_kept(&self) -> Result<(), AnyError> {
        let worker = LimitedWorker::spawn(()).await?;
        worker.pid().await?;
        self.keep(worker);
        Ok(())
    }

    async fn send_many_bytes(&self) -> Result<usize, AnyError> {
        Ok(self.workers()[0].length(vec![7; MANY]).await?)
    }
}

const TOO_MANY_OPEN_FILES: &str = "Too many open files (os error 24)";

#[rpc_parallel::test]
async fn master_without_descriptors_keeps_its_workers() {
    let master = LimitedWorker::spawn_ok(()).await;
    let waiting = tokio::spawn(master.wait());
    let mut numbers = master.endless_numbers().await.expect("call `endless_numbers`");

    master.leave_descriptors(40).await.expect("call `leave_descriptors`");
    let (count, error) = soon(master.start_until_error()).await.expect("call `start_until_error`");

    assert!(error.ends_with(TOO_MANY_OPEN_FILES), "{error}");
    assert!((3..40).contains(&count), "{count}");
    assert_eq!(soon(master.call_all()).await, Ok(count));
    // Calls and pipes of the master itself continue as well.
    assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(0));
    master.end_waiting().await.expect("call `end_waiting`");
    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
}

#[rpc_parallel::test]
async fn soft_limit_of_descriptors_is_raised_in_master_only() {
    let master = LimitedWorker::spawn_ok(()).await;
    let soft = soon(master.leave_descriptors_softly(40)).await.expect("call the master");
    let [low, hard] = master.descriptor_limits().await.expect("call the master");

    for _ in 0..30 {
        soon(master.start_kept()).await.expect("the limit is raised");
    }

    assert_eq!(low, Some(soft));
    assert_ne!(hard, low);
    assert_eq!(master.descriptor_limits().await, Ok([hard, hard]));
    let of_worker = soon(master.limits_of_new_worker()).await;
    assert_eq!(of_worker.expect("the worker starts"), [low, hard]);
    assert_eq!(soon(master.call_all()).await, Ok(30));
}

#[rpc_parallel::test]
async fn master_with_freed_descriptors_starts_workers_again() {
    let master = LimitedWorker::spawn_ok(()).await;

    master.leave_descriptors(40).await.expect("call `leave_descriptors`");
    for _ in 0..3 {
        master.exhaust_descriptors().await.expect("call `exhaust_descriptors`");
        let refused = soon(master.start_one()).await.expect_err("no descriptor is left");
        master.free_descriptors().await.expect("call `free_descriptors`");

        assert!(refused.to_string().contains(TOO_MANY_OPEN_FILES), "{refused}");
        let started = soon(master.start_one()).await.expect("descriptors are free");
        assert!(ends(started).await, "its client is dropped");
    }
}

#[rpc_parallel::test]
async fn process_without_descriptors_fails_only_new_connections() {
    let process = LimitedWorker::spawn_ok(()).await;
    let other = LimitedWorker::start_ok(()).await;
    let other_pid = process.connect_to(other.clone()).await.expect("call `connect_to`");

    process.leave_descriptors(10).await.expect("call `leave_descriptors`");
    process.exhaust_descriptors().await.expect("call `exhaust_descriptors`");
    let refused = soon(process.connect_to(other.clone())).await;
    process.free_descriptors().await.expect("call `free_descriptors`");

    let refused = refused.expect_err("no descriptor is left");
    assert!(refused.to_string().contains(TOO_MANY_OPEN_FILES), "{refused}");
    assert_eq!(soon(process.connect_to(other)).await, Ok(other_pid));
}

#[rpc_parallel::test]
async fn worker_without_descriptors_refuses_only_new_connections() {
    let worker = LimitedWorker::start_ok(()).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    let waiting = tokio::spawn(client.wait());
    let mut numbers = client.endless_numbers().await.expect("call `endless_numbers`");

    client.leave_descriptors(10).await.expect("call `leave_descriptors`");
    client.exhaust_descriptors().await.expect("call `exhaust_descriptors`");
    let refused = soon(worker.connect(())).await.expect_err("no descriptor is left");

    let kind = refused.kind();
    assert!(matches!(kind, ConnectErrorKind::Unreachable(_)), "{refused}");
    client.end_waiting().await.expect("call `end_waiting`");
    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
    client.free_descriptors().await.expect("call `free_descriptors`");
    let again = soon(worker.connect_ok()).await;
    assert_eq!(soon(again.pid()).await, Ok(pid));
    for number in 0..3 {
        assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(number));
    }
}

#[rpc_parallel::test]
async fn caller_without_descriptors_waits_for_room_in_full_socket() {
    let master = LimitedWorker::spawn_ok(()).await;
    master.start_kept().await.expect("start a worker");

    master.leave_descriptors(10).await.expect("call `leave_descriptors`");
    master.exhaust_descriptors().await.expect("call `exhaust_descriptors`");
    let arrived = soon(master.send_many_bytes()).await;

    assert_eq!(arrived, Ok(MANY));
}

#[rpc_parallel::test]
async fn worker_without_descriptors_waits_for_room_in_full_socket() {
    let worker = LimitedWorker::spawn_ok(()).await;

    worker.leave_descriptors(10).await.expect("call `leave_descriptors`");
    worker.exhaust_descriptors().await.expect("call `exhaust_descriptors`");
    let bytes = soon(worker.many_bytes()).await;

    assert_eq!(bytes.map(|it| it.len()), Ok(MANY));
}

/// A user id that no other process has, so that the limit counts only processes of the test.
const UNUSED_UID: u32 = 54321;

#[test]
fn master_at_process_limit_reports_cause_and_keeps_its_workers() {
    // The process limit does not apply to root, so the program runs as another user.
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can start a program as another user");
        return;
    }
    // The other user may not read the target directory.
    let directory = tempfile::tempdir_in("/tmp").expect("make a directory");
    let program = directory.path().join("few_processes");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_few_processes")).arg(&program).status();
    assert!(copied.is_ok_and(|it| it.success()), "copy the program");
    for path in [directory.path(), &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("set permissions");
    }

    let mut command = Command::new(program);
    command.arg("24").current_dir("/").env("TMPDIR", "/tmp").uid(UNUSED_UID).gid(UNUSED_UID);
    let output = Program::run(&mut command);

    let [error, answered, again] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(error.contains("Resource temporarily unavailable (os error 11)"), "{output:?}");
    let (answers, workers) = answered.split_once(" of ").expect("`<answers> of <workers>`");
    assert_eq!(answers, workers, "{output:?}");
    assert!((2..24).contains(&workers.parse().expect("the number of workers")), "{output:?}");
    assert_eq!(again, "again", "{output:?}");
}
