//! Launchers: a worker behind another program behaves and ends like a worker without one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{LaunchRequest, Launcher, Launching, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::{ends, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

/// Returns a spawner with a shell that runs this script as launcher.
fn shell(script: &str) -> Spawner<Fixture> {
    Fixture::spawner().launcher(WrapperLauncher::new("/bin/sh").args(["-c", script, "sh"]))
}

/// Returns a spawner with a shell that forks the worker and waits for it.
fn waiting_shell() -> Spawner<Fixture> {
    shell(r#""$@"; exit $?"#)
}

#[rpc_parallel::test]
async fn wrapper_that_execs_worker_leaves_no_process() {
    let wrapped = Fixture::spawner().launcher(WrapperLauncher::new("env").arg("WRAPPED=yes"));

    let client = wrapped.spawn_ok(()).await;

    assert_eq!(client.parent_pid().await, Ok(std::process::id()));
    assert_eq!(client.variable("WRAPPED").await, Ok(Some("yes".to_owned())));
    let own = fs::read_to_string("/proc/self/comm").expect("read /proc/self/comm");
    assert_eq!(client.proc_file("comm").await, Ok(own), "the worker has the program's name");
}

#[rpc_parallel::test]
async fn label_names_worker_and_not_its_wrapper() {
    let client = waiting_shell().name("behind").env("GIVEN", "a b").spawn_ok(()).await;

    let (pid, parent) = (client.pid().await, client.parent_pid().await);

    assert_ne!(parent, Ok(std::process::id()), "the shell is the parent");
    assert_eq!(client.label().pid(), pid.ok());
    assert_eq!(client.variable("GIVEN").await, Ok(Some("a b".to_owned())));
}

#[rpc_parallel::test]
async fn dropping_last_client_ends_worker_and_wrapper() {
    let client = waiting_shell().spawn_ok(()).await;
    let pids = [client.pid().await, client.parent_pid().await];

    drop(client);

    for pid in pids {
        assert!(ends(pid.expect("call the worker")).await);
    }
}

#[rpc_parallel::test]
async fn killed_wrapper_ends_its_worker() {
    let client = waiting_shell().spawn_ok(()).await;
    let pid = client.pid().await.expect("call `pid`");
    let shell = client.parent_pid().await.expect("call `parent_pid`");
    let waiting = tokio::spawn(client.wait());

    kill(shell);

    assert!(ends(pid).await, "the supervisor watches the wrapper");
    let error = soon(waiting).await.expect("no panic").expect_err("the worker has ended");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
}

#[rpc_parallel::test]
async fn exit_reason_of_worker_is_that_of_its_wrapper() {
    let client = waiting_shell().spawn_ok(()).await;
    let pid = client.pid().await.expect("call `pid`");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(
        failure.exit_reason(),
        ExitReason::Exited(128 + 9),
        "the shell maps signals to exit codes"
    );
    assert_eq!(failure.worker().pid(), Some(pid));
}

/// Returns a script whose `init` prints the process ids of worker and parent, and blocks.
fn blocked_in_init() -> Script {
    Script::init([Action::PrintPids, Action::Block])
}

async fn pids_from(pipe: Receiver) -> [u32; 2] {
    let line = BufReader::new(pipe).lines().next_line().await.expect("read the pipe");
    let line = line.expect("the worker prints a line");
    let mut pids = line.split(' ').map(|it| it.parse().expect("the worker prints process ids"));
    [(); 2].map(|()| pids.next().expect("the worker prints two process ids"))
}

#[rpc_parallel::test]
async fn wrapper_killed_during_init_is_reported() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let spawning = tokio::spawn(waiting_shell().stdout(stdout).spawn(blocked_in_init()));
    let [pid, shell] = pids_from(pipe).await;

    kill(shell);

    let error = soon(spawning).await.expect("no panic").expect_err("`init` is blocked");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert!(ends(pid).await, "no process is left");
}

#[rpc_parallel::test]
async fn init_timeout_ends_worker_and_wrapper() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let spawner = waiting_shell().stdout(stdout).init_timeout(Duration::from_millis(200));

    let error = soon(spawner.spawn(blocked_in_init())).await.expect_err("`init` is blocked");

    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { .. }), "{error}");
    for pid in pids_from(pipe).await {
        assert!(ends(pid).await, "no process is left");
    }
}

#[rpc_parallel::test]
async fn dropping_spawn_future_ends_worker_and_wrapper() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");

    let pids = tokio::select! {
        spawned = waiting_shell().stdout(stdout).spawn(blocked_in_init()) => panic!("{spawned:?}"),
        pids = pids_from(pipe) => pids,
    };

    for pid in pids {
        assert!(ends(pid).await, "no process is left");
    }
}

#[rpc_parallel::test]
async fn wrapper_that_does_not_wait_for_worker_is_refused() {
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("pid");
    // The worker starts after its wrapper has exited.
    let worker =
        format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 0.2; exec \"$@\"", file.display());
    let wrapper = format!(
        "exec 3<&0; sh -c '{worker}' sh \"$@\" <&3 3<&- & until [ -e {} ]; do sleep 0.01; done",
        file.display()
    );

    let error = soon(shell(&wrapper).spawn(Script::default())).await;

    let error = error.expect_err("the wrapper has exited");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(0));
    let pid = fs::read_to_string(file).expect("the wrapper has waited for the file");
    assert!(ends(pid.trim().parse().expect("it is a process id")).await, "no process is left");
}

#[rpc_parallel::test]
async fn wrapper_that_replaces_stdin_is_reported() {
    let spawned = shell(r#"exec "$@" </dev/null"#).spawn(Script::default()).await;

    let error = spawned.expect_err("the worker has no control socket");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(2));
    let [line] = failure.stderr() else { panic!("{error}") };
    assert!(line.contains("its stdin is no longer the control socket"), "{line}");
}

#[rpc_parallel::test]
async fn failing_wrapper_is_reported_with_stderr() {
    let spawned = shell("echo out of order >&2; exit 3").spawn(Script::default()).await;

    let error = spawned.expect_err("the wrapper exits");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(3));
    assert_eq!(failure.stderr(), ["out of order"]);
}

#[rpc_parallel::test]
async fn missing_wrapper_is_named() {
    let missing = Fixture::spawner().launcher(WrapperLauncher::new("no-such-program"));

    let error = missing.spawn(Script::default()).await.expect_err("the wrapper does not exist");

    assert!(
        error.to_string().contains("failed to start the program `no-such-program`: No such file"),
        "{error}"
    );
    assert!(matches!(error.kind(), SpawnErrorKind::Process { .. }));
}

/// A launcher that starts each worker unchanged, and records what it was given.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<Recorded>>>);

#[derive(PartialEq, Debug)]
struct Recorded {
    program: PathBuf,
    arg0: OsString,
    first_argument: Option<OsString>,
    clears_environment: bool,
    environment: Vec<(OsString, Option<OsString>)>,
}

impl Launcher for Recording {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let environment = worker.envs().map(|(name, value)| (name.into(), value.map(Into::into)));
        self.0.lock().expect("no thread panics with the lock").push(Recorded {
            program: worker.program().to_owned(),
            arg0: worker.arg0().to_owned(),
            first_argument: worker.args().next().map(Into::into),
            clears_environment: worker.is_env_cleared(),
            environment: environment.collect(),
        });
        let command = worker.command();
        Box::pin(async move { worker.exec(command) })
    }
}

#[rpc_parallel::test]
async fn custom_launcher_receives_program_arguments_and_environment() {
    let launcher = Recording::default();
    let spawner = Fixture::spawner().launcher(launcher.clone()).name("recorded");

    let client = spawner.env("SET", "1").env_remove("REMOVED").spawn_ok(()).await;

    assert_eq!(client.parent_pid().await, Ok(std::process::id()));
    let recorded = launcher.0.lock().expect("no thread panics with the lock").pop();
    let expected = Recorded {
        program: format!("/proc/{}/exe", std::process::id()).into(),
        arg0: std::env::args_os().next().expect("the program has a name"),
        first_argument: Some("--exact".into()),
        clears_environment: false,
        environment: vec![("SET".into(), Some("1".into())), ("REMOVED".into(), None)],
    };
    assert_eq!(recorded, Some(expected));
}

/// A launcher that answers after the other starts that are requested together, and fails.
struct Failing;

impl Launcher for Failing {
    fn launch(&self, _: LaunchRequest) -> Launching<'_> {
        Box::pin(async {
            tokio::task::yield_now().await;
            Err(io::Error::other("no host is free"))
        })
    }
}

#[rpc_parallel::test]
async fn error_of_launcher_is_error_of_spawn() {
    let error = Fixture::spawner().launcher(Failing).spawn(Script::default()).await;

    let error = error.expect_err("the launcher fails").to_string();
    assert!(error.contains("failed to launch its process: no host is free"), "{error}");
}

/// A launcher that never answers.
struct Hanging;

impl Launcher for Hanging {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(worker);
            unreachable!("`pending` never completes")
        })
    }
}

#[rpc_parallel::test]
async fn hanging_launcher_delays_only_its_own_start() {
    let hanging = Fixture::spawner().launcher(Hanging).spawn_timeout(Duration::from_millis(300));
    let hanging = tokio::spawn(hanging.spawn(Script::default()));

    let other = Fixture::spawn_ok(()).await;
    let error = soon(hanging).await.expect("no panic").expect_err("the launcher never answers");

    assert_eq!(other.double(3).await, Ok(6));
    assert!(matches!(error.kind(), SpawnErrorKind::TimedOut { .. }), "{error}");
}

/// Starts a worker by a shell that starts a child, and then runs this script. Checks that the start
/// fails, and that neither process is left.
async fn assert_failed_start_leaves_nothing(script: &str) {
    let directory = tempfile::tempdir().expect("make a directory");
    let pids = directory.path().join("pids");
    let pids_script = format!("sleep 1000 & echo $$ $! >{0}.new; mv {0}.new {0}", pids.display());
    let spawner = shell(&format!("{pids_script}; {script}"));

    let starting = spawner.connect_timeout(Duration::from_millis(500)).spawn(Script::default());
    let error = soon(starting).await.expect_err("no worker is started");

    assert!(matches!(error.kind(), SpawnErrorKind::StartupTimedOut { .. }), "{error}");
    let pids = fs::read_to_string(pids).expect("the shell has written it");
    for pid in pids.split_whitespace() {
        assert!(ends(pid.parse().expect("it is a process id")).await, "process {pid} is left");
    }
}

#[rpc_parallel::test]
async fn failed_start_ends_hanging_wrapper_and_its_children() {
    assert_failed_start_leaves_nothing("wait").await;
}

#[rpc_parallel::test]
async fn process_that_is_stopped_before_it_is_a_worker_is_killed() {
    assert_failed_start_leaves_nothing("kill -STOP $$; exec \"$@\"").await;
}

#[rpc_parallel::test]
async fn worker_runs_under_tracer() {
    let directory = tempfile::tempdir().expect("make a directory");
    let trace = directory.path().join("trace");
    let tracer =
        WrapperLauncher::new("strace").arg("-f").args(["-e", "trace=execve"]).arg("-o").arg(&trace);
    let tried = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    if !tried.is_ok_and(|it| it.status.success()) {
        println!("skipped: `strace` does not work on this host");
        return;
    }

    let client = Fixture::spawner().launcher(tracer).spawn_ok(()).await;
    let pid = client.pid().await.expect("call `pid`");
    let strace = client.parent_pid().await.expect("call `parent_pid`");
    drop(client);

    assert!(ends(pid).await && ends(strace).await);
    let trace = fs::read_to_string(trace).expect("read the trace");
    let first: Vec<_> = trace.split_whitespace().take(2).collect();
    let execve = format!("execve(\"/proc/{}/exe\",", std::process::id());
    assert_eq!(first, [pid.to_string(), execve], "{trace}");
}

/// Returns the parents of these processes.
fn parents(pids: &[u32]) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process exists");
        let rest = stat.rsplit_once(')').expect("the name is in parentheses").1;
        let parent = rest.split_whitespace().nth(1).and_then(|it| it.parse().ok());
        parent.expect("the second field after the name is the parent")
    };
    pids.iter().map(parent).collect()
}

#[test]
fn arguments_of_worker_behind_wrapper_hold_master_pid() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let master = Program::start(command.args(["wrapped", "1"]));
    let worker = master.line();
    let worker = worker.strip_prefix("worker ").expect("the worker prints its process id");

    let arguments = fs::read_to_string(format!("/proc/{worker}/cmdline"));

    let arguments = arguments.expect("the worker runs");
    let master = master.pid();
    assert_eq!(arguments, format!("/proc/{master}/exe\0worker-of-{master}\0"));
}

#[test]
fn workers_and_wrappers_end_with_killed_master() {
    for mode in ["wrapped", "wrapped-and-blocked-in-init"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
        let mut master = Program::start(command.args([mode, "2"]));
        let mut pids = Vec::new();
        while pids.len() < 2 {
            let line = master.line();
            let pid = line.strip_prefix("worker ").map(str::parse::<u32>);
            pids.extend(pid.transpose().expect("a process id follows `worker`"));
        }
        pids.extend(parents(&pids));
        assert!(pids.iter().all(|it| !is_gone(*it) && *it != master.pid()), "{mode}");

        master.kill();

        let killed = Instant::now();
        for pid in pids {
            let left = Duration::from_secs(2).saturating_sub(killed.elapsed());
            assert!(ends_within(pid, left), "{mode}: process {pid} outlives its master");
        }
    }
}
