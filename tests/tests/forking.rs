//! A child that user code forks without exec does not affect its parent or the parent's workers.

use std::process::Command;

use rpc_parallel_tests::program::{Program, ProgramOutput};

#[track_caller]
fn assert_unaffected(process: &str, child: &str) -> ProgramOutput {
    let output = Program::run(Command::new(env!("CARGO_BIN_EXE_forking")).args([process, child]));

    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, ["unaffected"], "{output:?}");
    output
}

#[test]
fn forked_child_returning_from_main_does_not_affect_workers() {
    assert_unaffected("master", "return");
}

#[test]
fn forked_child_exiting_does_not_affect_workers() {
    assert_unaffected("master", "exit");
}

#[test]
fn forked_child_panicking_in_main_does_not_affect_workers() {
    assert_unaffected("master", "panic");
}

#[test]
fn forked_child_dropping_clients_does_not_affect_connections() {
    assert_unaffected("master", "drop");
}

#[test]
fn forked_child_spawning_worker_gets_error() {
    let output = assert_unaffected("master", "spawn");

    let expected = "this process was forked without exec from the one that started workers";
    assert!(output.stderr.contains(expected), "{output:?}");
}

#[test]
fn forked_child_of_worker_exiting_does_not_affect_worker() {
    assert_unaffected("worker", "exit");
}

#[test]
fn forked_child_of_worker_panicking_in_call_does_not_affect_worker() {
    assert_unaffected("worker", "panic");
}

#[test]
fn forked_child_of_worker_panicking_in_thread_does_not_affect_worker() {
    assert_unaffected("worker", "panic-in-thread");
}

#[test]
fn forked_child_of_worker_dropping_client_does_not_affect_its_workers() {
    assert_unaffected("worker", "drop");
}
