//! A child that user code forks without exec harms neither its parent nor its parent's workers.

use std::process::Command;

use rpc_parallel_tests::program::{Ended, Program};

fn forking(who: &str, how: &str) -> Ended {
    Program::run(Command::new(env!("CARGO_BIN_EXE_forking")).args([who, how]))
}

#[track_caller]
fn assert_unharmed(who: &str, how: &str) -> Ended {
    let ended = forking(who, how);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, ["unharmed"], "{ended:?}");
    ended
}

#[test]
fn forked_child_returning_from_main_leaves_workers_alone() {
    assert_unharmed("master", "return");
}

#[test]
fn forked_child_exiting_leaves_workers_alone() {
    assert_unharmed("master", "exit");
}

#[test]
fn forked_child_panicking_in_main_leaves_workers_alone() {
    assert_unharmed("master", "panic");
}

#[test]
fn forked_child_dropping_clients_leaves_connections_alone() {
    assert_unharmed("master", "drop");
}

#[test]
fn forked_child_spawning_worker_gets_error() {
    let ended = assert_unharmed("master", "spawn");

    let expected = "this process was forked without exec from the one that started workers";
    assert!(ended.stderr.contains(expected), "{ended:?}");
}

#[test]
fn forked_child_of_worker_exiting_leaves_worker_alone() {
    assert_unharmed("worker", "exit");
}

#[test]
fn forked_child_of_worker_panicking_in_call_leaves_worker_alone() {
    assert_unharmed("worker", "panic");
}

#[test]
fn forked_child_of_worker_panicking_in_thread_leaves_worker_alone() {
    assert_unharmed("worker", "panic-in-thread");
}

#[test]
fn forked_child_of_worker_dropping_client_leaves_its_workers_alone() {
    assert_unharmed("worker", "drop");
}
