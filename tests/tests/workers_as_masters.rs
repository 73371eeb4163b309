//! Workers that start workers: long chains, wide trees, and handles of workers of workers.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use rpc_parallel_tests::node::Node;
use rpc_parallel_tests::process::{ends, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::soon;

#[rpc_parallel::test]
async fn ten_generations_call_and_stream_through_each_other() {
    let first = Node::spawn_ok(()).await;

    first.spawn_chain(9).await.expect("start workers");

    let pids = first.pids_below().await.expect("call `pids_below`");
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 9);
    assert_eq!(soon(first.sum(7)).await, Ok(70));
    let mut numbers = first.relay_numbers().await.expect("call `relay_numbers`");
    for number in 0..10_000 {
        assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(number));
    }
}

#[rpc_parallel::test]
async fn worker_starts_and_ends_hundred_workers_at_once() {
    let first = Node::spawn_ok(()).await;

    first.spawn_below(100).await.expect("start workers");

    assert_eq!(soon(first.sum(1)).await, Ok(101));
    let pids = first.pids_below().await.expect("call `pids_below`");
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 100);
    first.drop_below().await.expect("call `drop_below`");
    for pid in pids {
        assert!(ends(pid).await, "the last client was dropped");
    }
    assert_eq!(soon(first.sum(1)).await, Ok(1));
}

#[rpc_parallel::test]
async fn tree_ends_with_client_of_its_root() {
    let first = Node::spawn_ok(()).await;
    first.spawn_below(3).await.expect("start workers");
    first.spawn_chain(4).await.expect("start workers");
    let pids = first.pids_below().await.expect("call `pids_below`");
    assert_eq!(pids.len(), 4 * 4);

    drop(first);

    for pid in pids {
        assert!(ends(pid).await, "the master of the worker has ended");
    }
}

#[rpc_parallel::test]
async fn all_processes_connect_to_worker_of_worker() {
    let (first, other) = (Node::spawn_ok(()).await, Node::spawn_ok(()).await);

    let worker = first.start().await.expect("start a worker");

    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("call `pid`");
    assert_eq!(other.pid_of(worker.clone()).await, Ok(pid));
    assert_eq!(first.pid_of(worker.clone()).await, Ok(pid));
    drop(client);
    assert!(!is_gone(pid), "the worker runs as long as its master");
    drop(first);
    assert!(ends(pid).await, "the master of the worker has ended");
}

#[rpc_parallel::test]
async fn killed_worker_ends_its_worker_but_not_connected_processes() {
    let (first, other) = (Node::spawn_ok(()).await, Node::spawn_ok(()).await);
    let worker = first.start().await.expect("start a worker");
    let below = other.pid_of(worker).await.expect("call `pid_of`");

    kill(first.pid().await.expect("call `pid`"));

    assert!(ends(below).await, "the master of the worker has ended");
    assert_eq!(soon(other.sum(1)).await, Ok(1));
}

#[test]
fn arguments_of_ten_generations_hold_master_pid_and_name() {
    let program =
        Program::start(Command::new(env!("CARGO_BIN_EXE_left_behind")).args(["idle", "10"]));
    let (mut workers, mut ready) = (Vec::new(), false);
    while workers.len() < 10 || !ready {
        let line = program.line();
        let pid = line.strip_prefix("worker ").map(str::parse::<u32>);
        workers.extend(pid.transpose().expect("a process id follows `worker`"));
        ready |= line == "ready";
    }

    let arguments = |pid: u32| {
        let read = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("the worker runs");
        read.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()
    };

    let mut master = program.pid();
    for (index, worker) in workers.into_iter().enumerate() {
        let [_, of, name] = &arguments(worker)[..] else { panic!("{:?}", arguments(worker)) };
        let expected = (format!("worker-of-{master}"), format!("node-{}", 10 - index));
        assert_eq!((of, name), (&expected.0, &expected.1));
        master = worker;
    }
    assert!(program.end().status.success());
}
