//! Something else than the master starts a worker: it is the same worker, and ends like others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{Launcher, WorkerCommand, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

/// What a process knows of itself.
#[rpc_parallel::worker]
trait Knows {
    fn pid(&self) -> u32;
    fn parent(&self) -> u32;
    fn file(&self, name: &str) -> Result<String, AnyError>;
    fn variable(&self, name: &str) -> Option<String>;
    async fn wait(&self);
}

struct Knowing;

/// How its `init` goes.
#[derive(Serialize, Deserialize)]
enum Begin {
    Well,
    /// It prints its process id and that of its parent, and does not return.
    Blocks,
}

impl WorkerState for Knowing {
    type Init = Begin;

    async fn init(begin: Begin) -> Result<Self, BoxError> {
        match begin {
            Begin::Well => Ok(Self),
            Begin::Blocks => {
                println!("{} {}", std::process::id(), std::os::unix::process::parent_id());
                loop {
                    std::thread::sleep(Duration::from_secs(1000));
                }
            }
        }
    }
}

#[rpc_parallel::worker]
impl Knows for Knowing {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn parent(&self) -> u32 {
        std::os::unix::process::parent_id()
    }

    fn file(&self, name: &str) -> Result<String, AnyError> {
        Ok(fs::read_to_string(Path::new("/proc/self").join(name))?)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    async fn wait(&self) {
        std::future::pending::<()>().await;
    }
}

/// A shell that stays between master and worker, and does something around it.
fn shell(script: &str) -> Spawner<Knowing> {
    Knowing::spawner().launcher(WrapperLauncher::new("/bin/sh").args(["-c", script, "sh"]))
}

/// It stays until the worker has ended.
fn staying() -> Spawner<Knowing> {
    shell(r#""$@"; exit $?"#)
}

async fn spawn(spawner: Spawner<Knowing>) -> KnowsClient {
    spawner.spawn(Begin::Well).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn a_wrapper_that_becomes_the_worker_leaves_no_trace() {
    let wrapped = Knowing::spawner().launcher(WrapperLauncher::new("env").arg("WRAPPED=yes"));

    let client = spawn(wrapped).await;

    assert_eq!(client.parent().await, Ok(std::process::id()));
    assert_eq!(client.variable("WRAPPED").await, Ok(Some("yes".to_owned())));
    let own = fs::read_to_string("/proc/self/comm").expect("there is a /proc");
    assert_eq!(client.file("comm").await, Ok(own), "it is called like its program");
}

#[rpc_parallel::test]
async fn a_worker_behind_a_wrapper_is_what_its_client_names() {
    let client = spawn(staying().name("behind").env("GIVEN", "a b")).await;

    let (pid, parent) = (client.pid().await, client.parent().await);

    assert_ne!(parent, Ok(std::process::id()), "the shell is between them");
    assert_eq!(client.label().pid(), pid.ok());
    assert_eq!(client.variable("GIVEN").await, Ok(Some("a b".to_owned())));
}

#[rpc_parallel::test]
async fn dropping_the_last_client_ends_worker_and_wrapper() {
    let client = spawn(staying()).await;
    let pids = [client.pid().await, client.parent().await];

    drop(client);

    for pid in pids {
        assert!(ends(pid.expect("call it")).await);
    }
}

#[rpc_parallel::test]
async fn the_end_of_a_wrapper_is_the_end_of_its_worker() {
    let client = spawn(staying()).await;
    let [pid, shell] = [client.pid().await, client.parent().await].map(|it| it.expect("call it"));
    let waiting = tokio::spawn(client.wait());

    kill(shell);

    assert!(ends(pid).await, "its master takes it for dead");
    let error = soon(waiting).await.expect("it does not panic").expect_err("nobody answers");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
}

#[rpc_parallel::test]
async fn the_death_of_a_worker_is_what_its_wrapper_makes_of_it() {
    let client = spawn(staying()).await;
    let pid = client.pid().await.expect("call it");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("it does not panic").expect_err("nobody answers");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(128 + 9), "as a shell says it");
    assert_eq!(failure.worker().pid(), Some(pid));
}

async fn pids_from(pipe: Receiver) -> [u32; 2] {
    let line = BufReader::new(pipe).lines().next_line().await.expect("the pipe works");
    let line = line.expect("there is a line");
    let mut pids = line.split(' ').map(|it| it.parse().expect("it is a process id"));
    [(); 2].map(|()| pids.next().expect("there are two"))
}

#[rpc_parallel::test]
async fn a_wrapper_that_is_killed_while_its_worker_begins_is_reported() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let spawning = tokio::spawn(staying().stdout(stdout).spawn(Begin::Blocks));
    let [pid, shell] = pids_from(pipe).await;

    kill(shell);

    let error = soon(spawning).await.expect("it does not panic").expect_err("it never begins");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
    assert!(ends(pid).await, "nothing is left of it");
}

#[rpc_parallel::test]
async fn a_timeout_ends_worker_and_wrapper() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let limited = staying().stdout(stdout).init_timeout(Duration::from_millis(200));

    let error = soon(limited.spawn(Begin::Blocks)).await.expect_err("it never begins");

    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { .. }), "{error}");
    for pid in pids_from(pipe).await {
        assert!(ends(pid).await, "nothing is left of it");
    }
}

#[rpc_parallel::test]
async fn dropping_a_spawning_ends_worker_and_wrapper() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");

    let pids = tokio::select! {
        spawned = staying().stdout(stdout).spawn(Begin::Blocks) => panic!("{spawned:?}"),
        pids = pids_from(pipe) => pids,
    };

    for pid in pids {
        assert!(ends(pid).await, "nobody waits for it any more");
    }
}

#[rpc_parallel::test]
async fn a_wrapper_that_does_not_wait_for_its_worker_is_refused() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    // The worker begins when nothing can tell it any more that its wrapper is gone.
    let gone = shell(r#"exec 3<&0; (sleep 0.2; exec "$@") <&3 3<&- & exit 0"#).stdout(stdout);

    let error = soon(gone.spawn(Begin::Blocks)).await.expect_err("its process has ended");

    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(0));
    let [pid, _] = pids_from(pipe).await;
    assert!(ends(pid).await, "nothing is left of it");
}

#[rpc_parallel::test]
async fn a_wrapper_that_takes_the_stdin_of_its_worker_is_told_so() {
    let error = shell(r#"exec "$@" </dev/null"#).spawn(Begin::Well).await;

    let error = error.expect_err("it does not find its master");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(2));
    let [line] = failure.stderr() else { panic!("{error}") };
    assert!(line.contains("its stdin is no longer the control socket"), "{line}");
}

#[rpc_parallel::test]
async fn a_wrapper_that_fails_is_reported_with_its_last_words() {
    let failing = shell("echo out of order >&2; exit 3").spawn(Begin::Well).await;

    let error = failing.expect_err("it does not start the worker");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));
    assert_eq!(failure.stderr(), ["out of order"]);
}

#[rpc_parallel::test]
async fn a_wrapper_that_there_is_not_is_named() {
    let missing = Knowing::spawner().launcher(WrapperLauncher::new("no-such-program"));

    let error = missing.spawn(Begin::Well).await.expect_err("there is none");

    assert!(
        error.to_string().contains("failed to start the program `no-such-program`: No such file"),
        "{error}"
    );
    assert!(matches!(error.kind(), SpawnErrorKind::Process { .. }));
}

/// Notes what it was asked to start, and starts it.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<WorkerCommand>>>);

impl Launcher for Noting {
    fn command(&self, worker: &WorkerCommand) -> Command {
        self.0.lock().expect("nobody panics in here").push(worker.clone());
        worker.command()
    }
}

#[rpc_parallel::test]
async fn a_launcher_of_ones_own_knows_all_that_makes_the_worker() {
    let noting = Noting::default();
    let spawner = Knowing::spawner().launcher(noting.clone()).name("noted");

    let client = spawn(spawner.env("SET", "1").env_remove("LOST")).await;

    assert_eq!(client.parent().await, Ok(std::process::id()));
    let noted = noting.0.lock().expect("nobody panics in here").pop().expect("it was asked");
    assert_eq!(noted.program(), PathBuf::from(format!("/proc/{}/exe", std::process::id())));
    assert_eq!(Some(noted.arg0()), std::env::args_os().next().as_deref());
    assert_eq!(noted.args().next(), Some("--exact".as_ref()));
    assert!(!noted.is_env_cleared());
    let changes: Vec<_> = noted.envs().take(2).collect();
    assert_eq!(changes, [("SET".as_ref(), Some("1".as_ref())), ("LOST".as_ref(), None)]);
}

#[rpc_parallel::test]
async fn a_worker_runs_under_a_tracer() {
    let directory = tempfile::tempdir().expect("make a directory");
    let trace = directory.path().join("trace");
    let tracer =
        WrapperLauncher::new("strace").arg("-f").args(["-e", "trace=execve"]).arg("-o").arg(&trace);
    let tried = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    if !tried.is_ok_and(|it| it.status.success()) {
        println!("skipped: `strace` does not work here");
        return;
    }

    let client = spawn(Knowing::spawner().launcher(tracer)).await;
    let [pid, strace] = [client.pid().await, client.parent().await].map(|it| it.expect("call it"));
    drop(client);

    assert!(ends(pid).await && ends(strace).await);
    let trace = fs::read_to_string(trace).expect("it was written");
    let began: Vec<_> = trace.split_whitespace().take(2).collect();
    let started = format!("execve(\"/proc/{}/exe\",", std::process::id());
    assert_eq!(began, [pid.to_string(), started], "{trace}");
}

/// Returns the processes that started these.
fn parents(pids: &[u32]) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let rest = stat.rsplit_once(')').expect("the name stands in brackets").1;
        rest.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("it has a parent")
    };
    pids.iter().map(parent).collect()
}

#[test]
fn the_arguments_of_a_worker_behind_a_wrapper_tell_its_master() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let master = Program::start(command.args(["wrapped", "1"]));
    let worker = master.line();
    let worker = worker.strip_prefix("worker ").expect("it tells its process id");

    let arguments = fs::read_to_string(format!("/proc/{worker}/cmdline")).expect("it runs");

    let master = master.pid();
    assert_eq!(arguments, format!("/proc/{master}/exe\0worker-of-{master}\0"));
}

#[test]
fn workers_and_wrappers_end_with_a_master_that_is_killed() {
    for what in ["wrapped", "wrapped-and-blocked-in-init"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
        let mut master = Program::start(command.args([what, "2"]));
        let mut pids = Vec::new();
        while pids.len() < 2 {
            let line = master.line();
            pids.extend(
                line.strip_prefix("worker ").map(|it| it.parse::<u32>().expect("a process id")),
            );
        }
        pids.extend(parents(&pids));
        assert!(pids.iter().all(|it| !is_gone(*it) && *it != master.pid()), "{what}");

        master.kill();

        let killed = Instant::now();
        for pid in pids {
            let left = Duration::from_secs(2).saturating_sub(killed.elapsed());
            assert!(ends_within(pid, left), "{what}: process {pid} outlives its master");
        }
    }
}
