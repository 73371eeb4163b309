//! Panics: one inside a call fails the call, an unhandled one outside of calls ends the worker.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, PanicReport, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::build::build;
use rpc_parallel_tests::failure_scenario::{
    ActionPlace, all_failures, assert_has_stderr, fail_worker, fixture, spawn_fixture,
};
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::fixture::{PanicHandler, call_error};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

#[rpc_parallel::test]
async fn panic_while_panicking_is_reported_with_signal_and_stderr() {
    let failure = fail_worker(ActionPlace::Call, Action::PanicTwice).await;

    let ExitReason::Signaled { signal, .. } = failure.exit_reason() else { panic!("{failure}") };
    assert_eq!(signal, Signal::ABORT.as_raw(), "{failure}");
    let text = failure.to_string();
    assert!(text.contains("panic in a destructor during cleanup"), "{text}");
}

/// Checks the failure report of an unhandled panic.
fn assert_panicked(failure: &WorkerFailure, message: &str) {
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{failure}");
    let panic = failure.panic().expect("the report holds a panic");
    assert_eq!(panic.message, message);
    let location = panic.location.as_deref().expect("the report holds a location");
    assert!(location.contains("script.rs:"), "{location}");
    assert!(failure.to_string().contains(message), "{failure}");
    assert!(failure.to_string().contains(location), "{failure}");
    // The panic hook prints the message as in any program.
    assert!(failure.stderr().iter().any(|it| it.contains(message)), "{failure}");
    assert_has_stderr(failure);
}

#[rpc_parallel::test]
async fn panic_in_task_is_reported_with_location_and_exit_code_254() {
    let failure = fail_worker(ActionPlace::Task, Action::panic()).await;

    assert_panicked(&failure, "scripted panic");
}

#[rpc_parallel::test]
async fn panic_in_thread_is_reported_with_location_and_exit_code_254() {
    let failure = fail_worker(ActionPlace::Thread, Action::panic()).await;

    assert_panicked(&failure, "scripted panic");
}

#[rpc_parallel::test]
async fn panic_in_drop_is_reported_with_location_and_exit_code_254() {
    for place in [ActionPlace::Task, ActionPlace::Thread] {
        let failure = fail_worker(place, Action::PanicInDrop).await;

        assert_panicked(&failure, "panic in a destructor");
    }
}

#[rpc_parallel::test]
async fn first_of_two_panics_outside_of_calls_is_reported() {
    for place in [ActionPlace::Task, ActionPlace::Thread] {
        let failure = fail_worker(place, Action::PanicTwice).await;

        assert_panicked(&failure, "the first panic");
    }
}

#[rpc_parallel::test]
async fn panic_is_written_to_redirected_stderr() {
    let failures = Failures::default();
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("stderr");
    let client = fixture(&failures).stderr(Redirect::truncate(&file)).spawn_ok(()).await;

    drop(soon(client.run(Action::panic().in_thread())).await);

    let failure = failures.first().await;
    let written = fs::read_to_string(file).expect("read the file");
    assert!(written.contains("panicked at ") && written.contains("scripted panic"), "{written}");
    // Redirected stderr does not pass through the master. The panic has an event of its own.
    assert_eq!(failure.stderr(), [] as [String; 0]);
    assert_eq!(failure.panic().map(|it| it.message.as_str()), Some("scripted panic"));
}

#[rpc_parallel::test]
async fn panic_has_backtrace_if_rust_backtrace_is_set() {
    for (variable, has_backtrace) in [("1", true), ("0", false)] {
        let failures = Failures::default();
        let client = fixture(&failures).env("RUST_BACKTRACE", variable).spawn_ok(()).await;

        let error = call_error(soon(client.run(Action::panic())).await);
        drop(soon(client.run(Action::panic().in_thread())).await);

        let CallErrorKind::Panicked(in_call) = error.kind() else { panic!("{error}") };
        let failure = failures.first().await;
        for panic in [in_call, failure.panic().expect("the report holds a panic")] {
            let backtrace = panic.backtrace.as_deref();
            assert_eq!(backtrace.is_some(), has_backtrace, "{panic}");
            assert!(backtrace.is_none_or(|it| it.contains("script::Action")), "{backtrace:?}");
        }
    }
}

#[rpc_parallel::test]
async fn panic_during_start_is_reported_at_every_moment() {
    let script = Script::init([Action::panic().in_thread()]);
    for _ in 0..100 {
        let failures = Failures::default();
        let spawner = fixture(&failures).stderr(Redirect::null());

        let failure = match soon(spawner.spawn(script.clone())).await {
            Ok(_client) => failures.first().await,
            Err(error) => match error.kind() {
                SpawnErrorKind::Died(failure)
                | SpawnErrorKind::Connect(ConnectErrorKind::WorkerDied(failure)) => failure.clone(),
                kind => panic!("{kind:?}"),
            },
        };

        assert_eq!(failure.panic().map(|it| &*it.message), Some("scripted panic"), "{failure}");
    }
}

#[rpc_parallel::test]
async fn long_panic_message_is_truncated() {
    let failures = Failures::default();
    let client = fixture(&failures).stderr(Redirect::null()).spawn_ok(()).await;
    let message = format!("long{}", "!".repeat(2 * 1024 * 1024));

    drop(soon(client.run(Action::PanicWith(message).in_thread())).await);

    let failure = failures.first().await;
    let PanicReport { message, location, .. } = failure.panic().expect("the report holds a panic");
    let rest = message.strip_prefix("long").and_then(|it| it.strip_suffix(" .."));
    let len = rest.map(str::len);
    assert!(len.is_some_and(|it| (10_000..1_000_000).contains(&it)), "{len:?}");
    assert!(location.as_deref().is_some_and(|it| it.contains("script.rs:")), "{location:?}");
}

#[rpc_parallel::test]
async fn panic_in_call_fails_call_without_failure() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;

    for action in [Action::panic(), Action::PanicInDrop] {
        let error = call_error(soon(client.run(action)).await);

        assert!(matches!(error.kind(), CallErrorKind::Panicked(_)), "{error}");
    }

    assert_eq!(client.double(2).await, Ok(4));
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn handled_panic_is_no_failure() {
    let failures = Failures::default();
    let client = spawn_fixture(&failures).await;

    let joined = soon(client.panic_with_handler(PanicHandler::Join)).await;
    let caught = soon(client.panic_with_handler(PanicHandler::CatchUnwind)).await;
    let blocking = soon(client.panic_with_handler(PanicHandler::Blocking)).await;

    assert_eq!(joined, Ok("the thread panicked".into()));
    assert_eq!(caught, Ok("the function panicked".into()));
    // `blocking` passes the panic on to the function that awaits it.
    let Err(FunctionError::Call(error)) = blocking else { panic!("{blocking:?}") };
    let CallErrorKind::Panicked(PanicReport { message, location, .. }) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(message, "handled panic");
    assert!(location.as_deref().is_some_and(|it| it.contains("fixture.rs:")), "{location:?}");
    assert_eq!(client.double(2).await, Ok(4));
    assert_eq!(all_failures(&failures).await, []);
}

#[test]
fn panic_with_abort_strategy_is_failure_with_panic_report() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let profile = ["--config", "profile.dev.panic='abort'"];
    let program = build(target, "aborting", "dev", &profile);

    for place in ["call", "task", "thread"] {
        let output = Program::run(Command::new(&program).arg(place));

        assert!(output.status.success(), "{output:?}");
        let [call_error, failures @ ..] = &output.stdout[..] else { panic!("{output:?}") };
        assert_eq!(failures.len(), 1, "{output:?}");
        for text in [call_error, &failures[0]] {
            assert!(text.contains("was killed by signal 6 (SIGABRT)"), "{place}: {text}");
            assert!(text.contains("panicked at ") && text.contains("script.rs:"), "{text}");
            assert!(text.contains("scripted panic"), "{place}: {text}");
        }
    }
}
