//! Processes that a worker starts by other means than this framework.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use rpc_parallel::Spawner;
use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, is_gone, kill, until};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::worker]
trait Start {
    fn pid(&self) -> u32;
    /// Starts a program that runs for long, and returns its process id.
    fn start(&self, program: &str, arguments: &[String]) -> Result<u32, AnyError>;
    /// Starts a worker, lets it start such a program, and returns the process ids of both.
    async fn start_through_worker(&self) -> Result<[u32; 2], AnyError>;
}

#[derive(Default, WorkerState)]
struct Starter {
    children: Mutex<Vec<Child>>,
    workers: Mutex<Vec<StartClient>>,
}

#[rpc_parallel::worker]
impl Start for Starter {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn start(&self, program: &str, arguments: &[String]) -> Result<u32, AnyError> {
        let null = [(); 3].map(|()| Stdio::null());
        let [stdin, stdout, stderr] = null;
        let mut command = Command::new(program);
        let child = command.args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
        let pid = child.id();
        self.children.lock().expect("no thread panics with the lock").push(child);
        Ok(pid)
    }

    async fn start_through_worker(&self) -> Result<[u32; 2], AnyError> {
        let worker = Starter::spawner().kill_children().spawn(()).await?;
        let child = sleep(&worker).await;
        let pid = worker.pid().await?;
        self.workers.lock().expect("no thread panics with the lock").push(worker);
        Ok([pid, child])
    }
}

async fn sleep(starter: &StartClient) -> u32 {
    soon(starter.start("sleep", &["1000".to_owned()])).await.expect("start `sleep`")
}

fn spawner() -> Spawner<Starter> {
    Starter::spawner().kill_children()
}

#[rpc_parallel::test]
async fn children_of_killed_worker_are_killed() {
    let starter = spawner().spawn_ok(()).await;
    let child = sleep(&starter).await;

    kill(starter.pid().await.expect("call the worker"));

    assert!(ends(child).await);
}

#[rpc_parallel::test]
async fn children_end_with_last_client_of_worker() {
    let starter = spawner().spawn_ok(()).await;
    let child = sleep(&starter).await;

    drop(starter);

    assert!(ends(child).await);
}

#[rpc_parallel::test]
async fn children_are_killed_when_shutdown_returns() {
    let starter = spawner().spawn_ok(()).await;
    let child = sleep(&starter).await;

    soon(starter.shutdown()).await.expect("the end is orderly");

    assert!(ends(child).await);
}

#[rpc_parallel::test]
async fn children_of_worker_whose_master_is_killed_are_killed() {
    let master = Starter::spawner().spawn_ok(()).await;
    let started = soon(master.start_through_worker()).await.expect("call the master");

    kill(master.pid().await.expect("call the master"));

    for pid in started {
        assert!(ends(pid).await, "process {pid}");
    }
}

#[rpc_parallel::test]
async fn children_of_worker_behind_wrapper_are_killed() {
    let wrapper = WrapperLauncher::new("nice");
    let starter = spawner().launcher(wrapper).spawn_ok(()).await;
    let child = sleep(&starter).await;

    kill(starter.pid().await.expect("call the worker"));

    assert!(ends(child).await);
}

#[rpc_parallel::test]
async fn child_with_its_own_session_continues() {
    let starter = spawner().spawn_ok(()).await;
    let arguments = ["--fork", "sh", "-c", "echo $$ >\"$0\"; exec sleep 1000"].map(str::to_owned);
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("the path is UTF-8").to_owned();
    let arguments = [&arguments[..], &[path]].concat();
    soon(starter.start("setsid", &arguments)).await.expect("start `setsid`");
    let daemon = until(|| fs::read_to_string(file.path()).ok()?.trim().parse().ok());
    let daemon = daemon.expect("the program has written its process id");

    soon(starter.shutdown()).await.expect("the end is orderly");

    let continues = !is_gone(daemon);
    kill(daemon);
    assert!(continues);
}

#[rpc_parallel::test]
async fn children_continue_by_default() {
    let starter = Starter::spawner().spawn_ok(()).await;
    let child = sleep(&starter).await;

    soon(starter.shutdown()).await.expect("the end is orderly");

    let continues = !is_gone(child);
    kill(child);
    assert!(continues);
}

#[rpc_parallel::test]
async fn worker_in_foreground_cannot_kill_its_children() {
    let started = soon(spawner().foreground().spawn(())).await;

    let error = started.expect_err("it has no process group of its own");
    let SpawnErrorKind::SetUp { tried, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(tried, "let its children end with it");
}
