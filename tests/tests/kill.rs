//! Killing a worker by its handle or by a client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rpc_parallel::error::{CallErrorKind, ControlErrorKind, Execution, ExitReason};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{Fixture, call_error};
use rpc_parallel_tests::process::{is_gone, kill, state, until};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;
use tokio::join;

const KILLED: ExitReason =
    ExitReason::Signaled { signal: Signal::KILL.as_raw(), core_dumped: false };

#[rpc_parallel::test]
async fn killing_worker_ends_its_process_at_once() {
    let worker = Fixture::start_ok(Script::on_shutdown([Action::Wait])).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("the worker runs");

    let (killed, called) = join!(worker.kill(), client.run(Action::Block));

    killed.expect("this process started the worker");
    assert!(is_gone(pid), "the process has exited when `kill` returns");
    let error = call_error(called);
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    assert_eq!(error.execution(), Execution::WorkerGone);
}

/// Returns the processor time that the supervisor thread of this process has used, in ticks of 10 ms.
fn supervisor_ticks() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("list the threads").flatten();
    let stats = threads.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    let supervisor = stats.into_iter().find(|it| it.contains("(rpc-parallel su)"));
    let supervisor = supervisor.expect("it runs since the first start");
    let (_, fields) = supervisor.rsplit_once(") ").expect("the name is in parentheses");
    let times = fields.split(' ').skip(11).take(2);
    times.map(|it| it.parse::<u64>().expect("it is a number")).sum()
}

/// Traces a process by `PTRACE_SEIZE` until its stdin ends, and never notices its exit.
const TRACER: &str = "import ctypes, sys
traced = ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None) == 0
print('traced' if traced else 'refused', flush=True)
sys.stdin.read()";

#[rpc_parallel::test]
async fn killed_worker_is_reaped_when_its_tracer_ends() {
    let client = Fixture::spawn_ok(()).await;
    let pid = client.pid().await.expect("the worker runs");
    let mut tracer = Command::new("python3");
    tracer.args(["-c", TRACER, &pid.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut tracer) = tracer.spawn() else {
        println!("skipped: python3 is not installed");
        return;
    };
    let mut line = String::new();
    let stdout = tracer.stdout.as_mut().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("read a line");
    if line != "traced\n" {
        println!("skipped: processes cannot be traced here");
        return;
    }
    let waiting = tokio::spawn(client.wait());

    kill(pid);
    let zombie = until(|| (state(pid) == Some('Z')).then_some(()));
    let before = supervisor_ticks();
    // The time in which a supervisor that spins would use the processor.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = supervisor_ticks() - before;
    let has_failed = waiting.is_finished();
    drop(tracer.stdin.take());
    let error = soon(waiting).await.expect("no panic").expect_err("the worker was killed");

    assert!(zombie.is_some(), "the worker is a zombie");
    assert!(used < 25, "the supervisor has used {used} ticks");
    assert!(!has_failed, "its exit status is not known before");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), KILLED);
    tracer.wait().expect("it exits with its stdin");
}

#[rpc_parallel::test]
async fn killing_client_of_spawned_worker_ends_worker() {
    let client = Fixture::spawn_ok(()).await;
    let pid = client.pid().await.expect("the worker runs");

    client.kill().await.expect("this process started the worker");

    assert!(is_gone(pid), "the process has exited when `kill` returns");
    assert!(client.pid().await.is_err());
}

#[rpc_parallel::test]
async fn killed_worker_is_neither_restarted_nor_reported() {
    let failures = Failures::default();
    let spawner = Fixture::spawner().restart(RestartPolicy::on_failure());
    let spawner = spawner.on_failure(failures.callback());
    let spawned = spawner.clone().spawn_ok(()).await;
    let started = spawner.start_ok(()).await;
    let connected = started.connect_ok().await;

    spawned.kill().await.expect("this process started the worker");
    started.kill().await.expect("this process started the worker");

    spawned.closed().await;
    connected.closed().await;
    assert!(spawned.pid().await.is_err());
    assert!(connected.pid().await.is_err());
    assert!(started.connect(()).await.is_err());
    assert_eq!(failures.exit_reasons(), []);
}

#[rpc_parallel::test]
async fn killing_client_of_failed_worker_prevents_its_restart() {
    let hour = Duration::from_secs(3600);
    let restart = RestartPolicy::on_failure().backoff(hour..=hour);
    let client = Fixture::spawner().restart(restart).spawn_ok(()).await;
    call_error(client.run(Action::Exit(7)).await);

    client.kill().await.expect("the worker has ended");

    soon(client.closed()).await;
    assert!(client.pid().await.is_err());
}

#[rpc_parallel::test]
async fn killing_ended_worker_succeeds() {
    let worker = Fixture::start_ok(()).await;
    worker.shutdown().await.expect("the worker ends in order");

    worker.kill().await.expect("the process has exited already");
}

#[rpc_parallel::test]
async fn killing_server_of_this_process_fails() {
    let server = Fixture::serve(Script::default()).await.expect("the server starts");

    let error = server.kill().await.expect_err("the server has no process of its own");

    assert!(matches!(error.kind(), ControlErrorKind::NoProcessOfItsOwn), "{error}");
}
