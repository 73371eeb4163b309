//! Workers that are forked from a snapshot behave like those that are executed.
//!
//! A test has threads, with which no snapshot can be taken, so programs take them. The scenarios are
//! in `src/bin/snapshot.rs`, `warm_snapshot.rs` and `entry_snapshot.rs`, and assert themselves.

use std::process::Command;

use rpc_parallel::launch::{Snapshot, SnapshotError};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;

/// Runs a scenario of the program with the snapshot of `#[entry]`.
#[track_caller]
fn entry(scenario: &str) {
    run(Command::new(env!("CARGO_BIN_EXE_snapshot")).arg(scenario));
}

/// Runs a scenario of the program that takes snapshots itself.
#[track_caller]
fn warm(scenario: &str) {
    run(Command::new(env!("CARGO_BIN_EXE_warm_snapshot")).arg(scenario));
}

#[track_caller]
fn run(command: &mut Command) {
    let output = Program::run(command.env("INHERITED", "by test"));

    assert!(output.status.success(), "{}: {}", output.status, output.stderr);
}

#[test]
fn forked_workers_are_children_of_master() {
    entry("relatives");
}

#[test]
fn failures_of_forked_workers_are_reported() {
    entry("failures");
}

#[test]
fn forked_worker_inherits_from_master_at_its_start() {
    entry("inherited");
}

#[test]
fn spawner_sets_attributes_of_forked_worker() {
    entry("attributes");
}

#[test]
fn forked_worker_has_descriptors_of_executed_one() {
    entry("descriptors");
}

#[test]
fn forked_workers_have_different_hash_keys() {
    entry("hash_keys");
    warm("hash_keys");
}

#[test]
fn forked_worker_is_restarted() {
    entry("restart");
}

#[cfg(feature = "tracing")]
#[test]
fn logs_of_forked_worker_are_read() {
    entry("logs");
}

#[test]
fn pool_runs_on_snapshot() {
    entry("pool");
}

#[test]
fn hundred_workers_are_forked_at_once() {
    entry("many");
}

#[test]
fn workers_of_killed_snapshot_without_function_are_executed() {
    entry("killed");
}

#[test]
fn killed_snapshot_with_function_fails_later_starts_only() {
    run(Command::new(env!("CARGO_BIN_EXE_entry_snapshot")).arg("kill"));
}

#[test]
fn stopped_snapshot_delays_its_own_starts_only() {
    entry("stopped");
}

#[test]
fn forked_worker_is_master_but_of_no_snapshot() {
    entry("masters");
}

#[test]
fn what_needs_exec_is_refused() {
    entry("refused");
}

#[test]
fn detached_worker_outlives_master_and_snapshot() {
    let program = Program::start(Command::new(env!("CARGO_BIN_EXE_snapshot")).arg("detached"));
    let pids = program.numbers();

    let ended = ends_within(program.pid(), TEST_TIMEOUT);

    let [worker, snapshot] = pids[..] else { panic!("expected two process ids, found {pids:?}") };
    let outlives = !is_gone(worker);
    kill(worker);
    assert!(ended && outlives, "the worker is detached");
    assert!(ends_within(snapshot, TEST_TIMEOUT), "the snapshot process ends with the program");
    assert!(program.end().status.success());
}

#[test]
fn killed_master_takes_snapshot_and_workers_along() {
    let mut program = Program::start(Command::new(env!("CARGO_BIN_EXE_snapshot")).arg("wait"));
    let pids = program.numbers();

    program.kill();

    assert_eq!(pids.len(), 2);
    for pid in pids {
        assert!(ends_within(pid, TEST_TIMEOUT), "process {pid} ends");
    }
}

#[test]
fn workers_share_data_of_their_snapshot() {
    warm("shared");
}

#[test]
fn data_of_snapshot_is_not_private_memory_of_worker() {
    warm("memory");
}

#[test]
fn dropping_last_clone_ends_snapshot_process() {
    warm("dropped");
}

#[test]
fn failing_function_is_error_of_snapshot() {
    warm("failing");
}

#[test]
fn running_thread_is_named_in_error() {
    warm("threads");
}

#[test]
fn signal_handlers_of_function_are_removed() {
    warm("signals");
}

#[test]
fn snapshot_after_runtime_is_error() {
    warm("after_runtime");
}

#[test]
fn entry_without_snapshot_has_none() {
    warm("of_entry");
}

#[test]
fn function_of_entry_runs_before_main() {
    run(Command::new(env!("CARGO_BIN_EXE_entry_snapshot")).arg("use"));
}

#[test]
fn process_functions_and_jobs_run_in_snapshot_of_entry() {
    run(Command::new(env!("CARGO_BIN_EXE_entry_snapshot")).arg("process"));
}

#[test]
fn failed_function_of_entry_fails_process_functions() {
    run(Command::new(env!("CARGO_BIN_EXE_entry_snapshot")).arg("fail"));
}

#[test]
fn snapshot_in_test_names_threads() {
    let error = Snapshot::warm(|| Ok(())).expect_err("libtest has threads");

    assert!(matches!(error, SnapshotError::Threads { .. }), "{error}");
    assert!(error.to_string().contains("tests cannot"), "{error}");
}
