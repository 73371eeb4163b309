//! Where descriptors or processes run out, one learns so, and loses nothing that was running.

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
use rpc_parallel_tests::waiting::soon;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

/// A worker that is the master of others, and may have few descriptors.
#[rpc_parallel::worker]
trait Thrift {
    fn pid(&self) -> u32;
    /// Leaves this process so many descriptors more.
    fn leave_descriptors(&self, count: usize);
    /// Opens files until there are no descriptors any more.
    fn waste_descriptors(&self);
    fn tidy_up(&self);
    /// Starts workers until that fails, and returns how many there are and why there are no more.
    async fn start_all(&self) -> (usize, String);
    /// Calls all workers that it has started, and returns how many answer.
    async fn call_all(&self) -> usize;
    async fn start_one(&self) -> Result<u32, AnyError>;
    async fn connect_to(&self, other: Worker<Miser>) -> Result<u32, AnyError>;
    /// Returns when somebody else calls `end_waiting`.
    async fn wait(&self);
    fn end_waiting(&self);
    fn count_up(&self) -> Pipe<u64>;
    fn length(&self, bytes: Vec<u8>) -> usize;
    /// Returns more bytes than a socket holds.
    fn many_bytes(&self) -> Vec<u8>;
    /// Starts a worker that `send_many_bytes` calls.
    async fn start_kept(&self) -> Result<(), AnyError>;
    /// Sends a worker more bytes than a socket holds, and returns how many have arrived.
    async fn send_many_bytes(&self) -> Result<usize, AnyError>;
}

/// More than a socket holds.
const MANY: usize = 4_000_000;

#[derive(Default, WorkerState)]
struct Miser {
    files: Mutex<Vec<File>>,
    workers: Mutex<Vec<ThriftClient>>,
    waited: watch::Sender<bool>,
}

/// Says of an error whether it is one of too few descriptors, or of something else.
fn tell(error: &SpawnError) -> String {
    match error.kind() {
        SpawnErrorKind::Process { source, .. } => source.to_string(),
        _ => error.to_string(),
    }
}

#[rpc_parallel::worker]
impl Thrift for Miser {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn leave_descriptors(&self, count: usize) {
        let (used, _) = descriptors_and_threads().expect("there is a /proc");
        let limit = getrlimit(Resource::Nofile);
        let current = Some((used + count) as u64);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("it is less than before");
    }

    fn waste_descriptors(&self) {
        let files = std::iter::from_fn(|| File::open("/dev/null").ok());
        self.files.lock().expect("nobody panics in here").extend(files);
    }

    fn tidy_up(&self) {
        self.files.lock().expect("nobody panics in here").clear();
        self.workers.lock().expect("nobody panics in here").clear();
    }

    async fn start_all(&self) -> (usize, String) {
        loop {
            match Miser::spawn(()).await {
                Ok(worker) => self.workers.lock().expect("nobody panics in here").push(worker),
                Err(error) => {
                    let count = self.workers.lock().expect("nobody panics in here").len();
                    return (count, tell(&error));
                }
            }
        }
    }

    async fn call_all(&self) -> usize {
        let workers = self.workers.lock().expect("nobody panics in here").clone();
        let answers = join_all(workers.iter().map(ThriftClient::pid)).await;
        answers.into_iter().filter(Result::is_ok).count()
    }

    async fn start_one(&self) -> Result<u32, AnyError> {
        Ok(Miser::spawn(()).await?.pid().await?)
    }

    async fn connect_to(&self, other: Worker<Miser>) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.pid().await?)
    }

    async fn wait(&self) {
        let mut waited = self.waited.subscribe();
        waited.wait_for(|it| *it).await.expect("`self` holds the sender");
    }

    fn end_waiting(&self) {
        self.waited.send_replace(true);
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    fn length(&self, bytes: Vec<u8>) -> usize {
        bytes.len()
    }

    fn many_bytes(&self) -> Vec<u8> {
        vec![7; MANY]
    }

    async fn start_kept(&self) -> Result<(), AnyError> {
        let worker = Miser::spawn(()).await?;
        worker.pid().await?;
        self.workers.lock().expect("nobody panics in here").push(worker);
        Ok(())
    }

    async fn send_many_bytes(&self) -> Result<usize, AnyError> {
        let workers = self.workers.lock().expect("nobody panics in here").clone();
        Ok(workers[0].length(vec![7; MANY]).await?)
    }
}

const TOO_MANY_OPEN_FILES: &str = "Too many open files (os error 24)";

#[rpc_parallel::test]
async fn a_master_without_descriptors_starts_no_more_workers_and_keeps_those_it_has() {
    let master = Miser::spawn(()).await.expect("start a worker");
    let waiting = tokio::spawn(master.wait());
    let mut numbers = master.count_up().await.expect("call it");

    master.leave_descriptors(40).await.expect("call it");
    let (count, why) = soon(master.start_all()).await.expect("call it");

    assert!(why.ends_with(TOO_MANY_OPEN_FILES), "{why}");
    assert!((3..40).contains(&count), "{count}");
    assert_eq!(soon(master.call_all()).await, Ok(count));
    // And so it is with what runs in the master itself.
    assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(0));
    master.end_waiting().await.expect("call it");
    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
}

#[rpc_parallel::test]
async fn a_master_without_descriptors_starts_workers_again_when_it_has_some() {
    let master = Miser::spawn(()).await.expect("start a worker");

    master.leave_descriptors(40).await.expect("call it");
    for _ in 0..3 {
        master.waste_descriptors().await.expect("call it");
        let refused = soon(master.start_one()).await.expect_err("there are no descriptors");
        master.tidy_up().await.expect("call it");

        assert!(refused.to_string().contains(TOO_MANY_OPEN_FILES), "{refused}");
        let started = soon(master.start_one()).await.expect("there are descriptors");
        assert!(ends(started).await, "its client is dropped");
    }
}

#[rpc_parallel::test]
async fn a_process_without_descriptors_makes_no_connection_and_keeps_those_it_has() {
    let (one, other) = (Miser::spawn(()).await, Miser::spawner().start(()).await);
    let (one, other) = (one.expect("start a worker"), other.expect("start a worker"));
    let other_pid = one.connect_to(other.clone()).await.expect("call it");

    one.leave_descriptors(10).await.expect("call it");
    one.waste_descriptors().await.expect("call it");
    let refused = soon(one.connect_to(other.clone())).await.expect_err("it has no descriptors");
    one.tidy_up().await.expect("call it");

    assert!(refused.to_string().contains(TOO_MANY_OPEN_FILES), "{refused}");
    assert_eq!(soon(one.connect_to(other)).await, Ok(other_pid));
}

#[rpc_parallel::test]
async fn a_worker_without_descriptors_takes_no_connection_and_keeps_those_it_has() {
    let worker = Miser::spawner().start(()).await.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    let waiting = tokio::spawn(client.wait());
    let mut numbers = client.count_up().await.expect("call it");

    client.leave_descriptors(10).await.expect("call it");
    client.waste_descriptors().await.expect("call it");
    let refused = soon(worker.connect(())).await.expect_err("it has no descriptors");

    let kind = refused.kind();
    assert!(matches!(kind, ConnectErrorKind::Unreachable(_)), "{refused}");
    client.end_waiting().await.expect("call it");
    assert_eq!(soon(waiting).await.expect("no panic"), Ok(()));
    client.tidy_up().await.expect("call it");
    let again = soon(worker.connect(())).await.expect("it has descriptors again");
    assert_eq!(soon(again.pid()).await, Ok(pid));
    for number in 0..3 {
        assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(number));
    }
}

#[rpc_parallel::test]
async fn caller_without_descriptors_waits_for_room_in_full_socket() {
    let master = Miser::spawn(()).await.expect("start a worker");
    master.start_kept().await.expect("start a worker");

    master.leave_descriptors(10).await.expect("call it");
    master.waste_descriptors().await.expect("call it");
    let arrived = soon(master.send_many_bytes()).await;

    assert_eq!(arrived, Ok(MANY));
}

#[rpc_parallel::test]
async fn worker_without_descriptors_waits_for_room_in_full_socket() {
    let worker = Miser::spawn(()).await.expect("start a worker");

    worker.leave_descriptors(10).await.expect("call it");
    worker.waste_descriptors().await.expect("call it");
    let bytes = soon(worker.many_bytes()).await;

    assert_eq!(bytes.map(|it| it.len()), Ok(MANY));
}

/// A user that nobody is, so that the processes of others do not count.
const NOBODY: u32 = 54321;

#[test]
fn a_master_that_may_start_no_more_processes_is_told_so_and_keeps_its_workers() {
    // Whoever may do anything may also start as many processes as there are numbers.
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can become somebody without any other process");
        return;
    }
    // Whoever that is may come where everybody may, and not where this run keeps its files.
    let directory = tempfile::tempdir_in("/tmp").expect("make a directory");
    let program = directory.path().join("few_processes");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_few_processes")).arg(&program).status();
    assert!(copied.is_ok_and(|it| it.success()), "copy the program");
    for path in [directory.path(), &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
    }

    let mut command = Command::new(program);
    command.arg("24").current_dir("/").env("TMPDIR", "/tmp").uid(NOBODY).gid(NOBODY);
    let ended = Program::run(&mut command);

    let [refused, answered, again] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert!(refused.contains("Resource temporarily unavailable (os error 11)"), "{ended:?}");
    let (answers, workers) = answered.split_once(" of ").expect("it is as it was written");
    assert_eq!(answers, workers, "{ended:?}");
    assert!((2..24).contains(&workers.parse().expect("it is a number")), "{ended:?}");
    assert_eq!(again, "again", "{ended:?}");
}
