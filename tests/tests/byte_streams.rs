//! Workers that their master reaches only by a stream of bytes, as behind ssh or under Slurm: without
//! descriptors and without access to their process.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{LaunchRequest, Launched, Launcher, Launching};
use rpc_parallel::prelude::*;
use rpc_parallel::{RestartPolicy, Settings, Spawner};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::pools::{PoolOk as _, fixtures};
use rpc_parallel_tests::process::{ends, kill, signal};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;
use tokio::net::UnixListener;
use tokio::sync::{Notify, oneshot};

fn program() -> PathBuf {
    std::env::current_exe().expect("the program has a path")
}

/// Starts a worker as ssh does: by a command line for a shell, with a process that passes the bytes
/// of its stdin and stdout on.
#[derive(Clone, Copy)]
struct FakeSsh;

impl Launcher for FakeSsh {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(async move {
            let mut ssh = Command::new("/bin/sh");
            ssh.args(["-c", r#"/bin/sh -c "$0" | cat"#]).arg(worker.shell_command(program()));
            worker.over_stdio(ssh)
        })
    }
}

fn spawner() -> Spawner<Fixture> {
    Fixture::spawner().launcher(FakeSsh)
}

#[rpc_parallel::test]
async fn worker_behind_byte_stream_answers_calls() {
    let client = spawner().name("far").spawn_ok(()).await;

    assert_eq!(client.double(3).await, Ok(6));
    assert_eq!(client.label().pid(), client.pid().await.ok());
    assert_ne!(client.pid().await, Ok(std::process::id()));
}

#[rpc_parallel::test]
async fn pipes_and_large_values_travel_over_byte_stream() {
    let client = spawner().spawn_ok(()).await;

    let numbers = client.numbers(50_000).await.expect("open a pipe");
    let (bytes, numbers) =
        tokio::join!(client.bytes(10_000_000), numbers.try_collect::<Vec<u64>>());
    let length = client.length(&[7; 5_000_000]).await;

    assert_eq!(bytes.expect("receive a large value").len(), 10_000_000);
    assert!(numbers.expect("read the pipe").into_iter().eq(0..50_000));
    assert_eq!(length, Ok(5_000_000));
}

#[rpc_parallel::test]
async fn several_connections_share_byte_stream() {
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let clients = join_all((0..20).map(|_| worker.connect(()))).await;

    let answers = join_all(clients.into_iter().enumerate().map(async |(number, client)| {
        let client = client.expect("connect to the worker");
        client.echo(number as u64).await
    }));

    let answers: Result<Vec<u64>, _> = answers.await.into_iter().collect();
    assert_eq!(answers, Ok((0..20).collect()));
    assert!(soon(worker.shutdown()).await.is_ok());
}

#[rpc_parallel::test]
async fn large_argument_of_init_travels_over_byte_stream() {
    let init: Vec<_> = (0..50_000).map(|it| Action::Note(format!("note number {it}"))).collect();

    let client = spawner().spawn_ok(Script::init(init)).await;

    assert_eq!(client.events().await.map(|it| it.len()), Ok(50_000));
}

#[rpc_parallel::test]
async fn dropping_last_client_ends_worker_behind_byte_stream() {
    let failures = Failures::default();
    let client = spawner().on_failure(failures.callback()).spawn_ok(()).await;
    let pid = client.pid().await.expect("call the worker");

    drop(client);

    assert!(ends(pid).await);
    assert!(failures.list().is_empty());
}

#[rpc_parallel::test]
async fn shutdown_returns_end_of_worker_behind_byte_stream() {
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let pid = worker.label().pid().expect("its hello contains it");

    let ended = soon(worker.shutdown()).await;

    assert!(ended.is_ok(), "{ended:?}");
    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn panic_that_ends_worker_behind_byte_stream_is_reported() {
    let client = spawner().spawn_ok(()).await;

    let _ = soon(client.run(Action::panic().in_task())).await;
    let error = soon(client.wait()).await.expect_err("the worker ends");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.panic().map(|it| &*it.message), Some("scripted panic"));
}

#[rpc_parallel::test]
async fn killed_worker_behind_byte_stream_is_reported_with_stderr() {
    let client = spawner().spawn_ok(()).await;
    client.run(Action::PrintToStderr("out of paper".to_owned())).await.expect("print a line");
    let pid = client.pid().await.expect("call the worker");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(0), "the exit code of the command");
    // The shell reports the signal too.
    assert_eq!(failure.stderr().first().map(String::as_str), Some("out of paper"));
}

#[rpc_parallel::test]
async fn worker_behind_byte_stream_is_restarted() {
    let client = spawner().restart(RestartPolicy::on_failure()).spawn_ok(()).await;
    let first = client.pid().await.expect("call the worker");

    kill(first);
    let second = soon(async {
        loop {
            match client.pid().await {
                Ok(pid) if pid != first => return pid,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;

    assert!(ends(first).await);
    assert_ne!(first, second);
}

#[rpc_parallel::test]
async fn stopped_worker_behind_byte_stream_misses_heartbeats() {
    let settings = Settings::default()
        .with_heartbeat_interval(Duration::from_millis(100))
        .with_heartbeat_timeout(Duration::from_millis(400));
    let client = spawner().settings(settings).spawn_ok(()).await;
    let pid = client.pid().await.expect("call the worker");
    let waiting = tokio::spawn(client.wait());

    signal(pid, Signal::STOP);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker is stopped");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert!(matches!(failure.exit_reason(), ExitReason::Unresponsive { .. }), "{failure}");
    signal(pid, Signal::CONT);
    assert!(ends(pid).await, "it notices the end of the stream");
}

#[rpc_parallel::test]
async fn computing_worker_behind_byte_stream_answers_heartbeats_and_stats() {
    let settings = Settings::default()
        .with_heartbeat_interval(Duration::from_millis(50))
        .with_heartbeat_timeout(Duration::from_millis(500));
    let worker = spawner().settings(settings).start(Script::default()).await;
    let worker = worker.expect("start a worker");
    let client = worker.connect(()).await.expect("connect to it");
    let computing = tokio::spawn(client.run(Action::ComputeFor(Duration::from_millis(1500))));

    let stats = soon(worker.stats()).await.expect("the control thread answers");

    assert_eq!(Some(stats.pid()), worker.label().pid());
    assert!(soon(computing).await.expect("no panic").is_ok());
}

#[rpc_parallel::test]
async fn pool_behind_byte_streams_maps_items() {
    let pool = fixtures(0).on(FakeSsh, 2).spawn_ok(()).await;

    let doubled = pool.map(ScriptedClient::DOUBLE, 0..2000_u32);

    let doubled: Vec<u32> = soon(doubled.collect()).await.expect("map the items");
    assert!(doubled.into_iter().eq((0..2000).map(|it| it * 2)));
}

#[rpc_parallel::test]
async fn set_up_and_environment_reach_worker_behind_byte_stream() {
    let value = r#"a "b" 'c' $HOME `d` \e"#;
    let spawner = spawner().env("GIVEN", value).env_remove("USER").current_dir("/").umask(0o077);

    let client = spawner.spawn_ok(()).await;

    assert_eq!(client.variable("GIVEN").await, Ok(Some(value.to_owned())));
    assert_eq!(client.variable("USER").await, Ok(None));
    let status = client.proc_file("status").await.expect("read /proc/self/status");
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[rpc_parallel::test]
async fn program_started_by_worker_behind_byte_stream_is_no_worker() {
    let client = spawner().spawn_ok(()).await;

    let token = client.variable("RPC_PARALLEL_WORKER").await.expect("call the worker");

    // It identifies the stdin of the worker, which is not the stdin of programs that it starts.
    let token = token.expect("the depth is inherited");
    assert!(token.starts_with("stream:") && token.ends_with(":1"), "{token}");
}

#[rpc_parallel::test]
async fn what_needs_descriptors_is_refused_over_byte_stream() {
    let (piped, _reader) = Redirect::piped().expect("make a pipe");
    for spawner in [spawner().stdout(piped), spawner().stdout(Redirect::prefixed())] {
        let error = soon(spawner.spawn(Script::default())).await.expect_err("it is refused");

        assert!(matches!(error.kind(), SpawnErrorKind::Redirect { .. }), "{error}");
    }
    let detached = soon(spawner().start_detached(Script::default())).await;
    let error = detached.expect_err("it is refused").to_string();
    assert!(error.contains("its control connection ends with its master"), "{error}");
    let worker = spawner().start(Script::default()).await.expect("start a worker");
    let error = worker.address().expect_err("it has no address").to_string();
    assert!(error.contains("only the process that has started the worker"), "{error}");
}

#[rpc_parallel::test]
async fn command_that_fails_is_reported_with_its_stderr() {
    struct Failing;
    impl Launcher for Failing {
        fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
            let mut ssh = Command::new("/bin/sh");
            ssh.args(["-c", "echo no route to host >&2; exit 255"]);
            Box::pin(async move { worker.over_stdio(ssh) })
        }
    }

    let error = soon(Fixture::spawner().launcher(Failing).spawn(Script::default())).await;

    let error = error.expect_err("no worker is started");
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(255));
    assert_eq!(failure.stderr(), ["no route to host"]);
}

/// Starts workers as Slurm does: all that are requested together by one command, which connect back
/// to the master with a token. The master has no access to their processes.
#[derive(Clone)]
struct FakeSlurm {
    directory: Arc<Path>,
    requested: Arc<Mutex<Vec<Requested>>>,
    /// The numbers of workers that each command has started.
    commands: Arc<Mutex<Vec<usize>>>,
    begin: Arc<Notify>,
}

type Requested = (LaunchRequest, oneshot::Sender<io::Result<Launched>>);

impl FakeSlurm {
    fn new(directory: &Path) -> Self {
        let slurm = Self {
            directory: directory.into(),
            requested: Arc::default(),
            commands: Arc::default(),
            begin: Arc::default(),
        };
        let running = slurm.clone();
        tokio::spawn(async move {
            loop {
                running.begin.notified().await;
                // Starts that are requested together join before this task continues.
                tokio::task::yield_now().await;
                let requested = std::mem::take(&mut *running.requested.lock().expect("no panic"));
                if !requested.is_empty() {
                    running.commands.lock().expect("no panic").push(requested.len());
                    running.start(requested).await.expect("start a job");
                }
            }
        });
        slurm
    }

    /// Starts all workers by one command, and waits until they have connected.
    async fn start(&self, requested: Vec<Requested>) -> io::Result<()> {
        let mut script = String::new();
        let mut listeners = Vec::new();
        for (number, (worker, _)) in requested.iter().enumerate() {
            let socket = self.directory.join(format!("{number}"));
            listeners.push(UnixListener::bind(&socket)?);
            let line = worker.shell_command(program());
            let line = line.into_string().expect("all parts are UTF-8");
            let dial_back = env!("CARGO_BIN_EXE_dial_back");
            let line =
                line.replacen("exec env", &format!("env {dial_back} {} env", socket.display()), 1);
            script.push_str(&format!("{line} &\n"));
        }
        script.push_str("wait\n");
        let mut srun = Command::new("/bin/sh");
        srun.args(["-c", &script]).stdin(Stdio::null());
        let mut srun = srun.spawn()?;
        for ((worker, reply), listener) in requested.into_iter().zip(listeners) {
            let (connection, _) = listener.accept().await?;
            let connection = connection.into_std()?;
            let launched = worker.over_stream(connection.try_clone()?, connection);
            let _ = reply.send(launched);
        }
        tokio::task::spawn_blocking(move || srun.wait());
        Ok(())
    }
}

impl Launcher for FakeSlurm {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        let (reply, replied) = oneshot::channel();
        self.requested.lock().expect("no panic").push((worker, reply));
        self.begin.notify_one();
        Box::pin(async move { replied.await.expect("the task replies") })
    }
}

#[rpc_parallel::test]
async fn workers_requested_together_are_started_by_one_command() {
    let directory = tempfile::tempdir().expect("make a directory");
    let slurm = FakeSlurm::new(directory.path());

    let pool = fixtures(0).on(slurm.clone(), 5).spawn_ok(()).await;
    let pids = soon(pool.broadcast(ScriptedClient::PID, &())).await.expect("the pool runs");

    let pids: BTreeSet<u32> = pids.into_iter().map(|it| it.expect("call a worker")).collect();
    assert_eq!(pids.len(), 5);
    assert_eq!(*slurm.commands.lock().expect("no panic"), [5]);
    drop(pool);
    for pid in pids {
        assert!(ends(pid).await, "process {pid} is left");
    }
}

#[rpc_parallel::test]
async fn end_of_worker_without_process_handle_is_end_of_its_stream() {
    let directory = tempfile::tempdir().expect("make a directory");
    let spawner = Fixture::spawner().launcher(FakeSlurm::new(directory.path()));
    let client = spawner.spawn_ok(()).await;
    let pid = client.pid().await.expect("call the worker");
    let waiting = tokio::spawn(client.wait());

    kill(pid);

    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Disconnected);
}

#[rpc_parallel::test]
async fn killing_worker_without_process_handle_ends_it_by_its_stream() {
    let directory = tempfile::tempdir().expect("make a directory");
    let spawner = Fixture::spawner().launcher(FakeSlurm::new(directory.path()));
    let worker = spawner.start(Script::default()).await.expect("start a worker");
    let pid = worker.label().pid().expect("its hello contains it");

    let killed = soon(worker.kill()).await;

    assert!(killed.is_ok(), "{killed:?}");
    assert!(ends(pid).await);
}
