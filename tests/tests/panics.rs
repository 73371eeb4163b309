//! A panic in a call is for its caller; one that nobody handles is the end of its worker, and told.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, PanicReport, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::build::build;
use rpc_parallel_tests::failures::Failures;
use rpc_parallel_tests::mortal::{
    Ending, Handled, SourceLocation, Youth, all_failures, assert_last_words, exit_reason, mortal,
    start,
};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;
use rustix::process::Signal;

#[rpc_parallel::test]
async fn a_panic_within_a_panic_is_told_by_its_signal_and_its_last_words() {
    let failure = exit_reason(SourceLocation::InACall, Ending::PanicTwice).await;

    let ExitReason::Signaled { signal, .. } = failure.exit_reason() else { panic!("{failure}") };
    assert_eq!(signal, Signal::ABORT.as_raw(), "{failure}");
    let text = failure.to_string();
    assert!(text.contains("panic in a destructor during cleanup"), "{text}");
}

/// Checks a panic that nobody has handled.
fn assert_panicked(failure: &WorkerFailure, message: &str) {
    assert_eq!(failure.exit_reason(), ExitReason::Exited(254), "{failure}");
    let panic = failure.panic().expect("it was a panic");
    assert_eq!(panic.message, message);
    let location = panic.location.as_deref().expect("it was seen");
    assert!(location.contains("mortal.rs:"), "{location}");
    assert!(failure.to_string().contains(message), "{failure}");
    assert!(failure.to_string().contains(location), "{failure}");
    // It stands in the worker's stderr as in that of any program.
    assert!(failure.stderr().iter().any(|it| it.contains(message)), "{failure}");
    assert_last_words(failure);
}

#[rpc_parallel::test]
async fn a_panic_in_a_task_is_told_with_its_text_and_place_and_exits_with_254() {
    let failure = exit_reason(SourceLocation::InBackground, Ending::Panic).await;

    assert_panicked(&failure, "it is over");
}

#[rpc_parallel::test]
async fn a_panic_in_a_thread_is_told_with_its_text_and_place_and_exits_with_254() {
    let failure = exit_reason(SourceLocation::InAThread, Ending::Panic).await;

    assert_panicked(&failure, "it is over");
}

#[rpc_parallel::test]
async fn a_panic_in_a_drop_is_told_with_its_text_and_place_and_exits_with_254() {
    for place in [SourceLocation::InBackground, SourceLocation::InAThread] {
        let failure = exit_reason(place, Ending::PanicInDrop).await;

        assert_panicked(&failure, "dropped");
    }
}

#[rpc_parallel::test]
async fn the_first_of_two_panics_outside_of_any_call_is_told() {
    for place in [SourceLocation::InBackground, SourceLocation::InAThread] {
        let failure = exit_reason(place, Ending::PanicTwice).await;

        assert_panicked(&failure, "the first");
    }
}

#[rpc_parallel::test]
async fn a_panic_stands_in_the_file_that_stderr_was_redirected_to() {
    let failures = Failures::default();
    let directory = tempfile::tempdir().expect("make a directory");
    let file = directory.path().join("stderr");
    let spawner = mortal(&failures).stderr(Redirect::truncate(&file));
    let client = spawner.spawn(Youth::Happy).await.expect("start a worker");

    drop(soon(client.die_in_a_thread(Ending::Panic)).await);

    let failure = failures.first().await;
    let written = fs::read_to_string(file).expect("it is there");
    assert!(written.contains("panicked at ") && written.contains("it is over"), "{written}");
    // What went elsewhere its master has not seen, but the panic itself is told.
    assert_eq!(failure.stderr(), [] as [String; 0]);
    assert_eq!(failure.panic().map(|it| it.message.as_str()), Some("it is over"));
}

#[rpc_parallel::test]
async fn a_panic_brings_its_backtrace_where_the_environment_asks_for_one() {
    for (asked, brought) in [("1", true), ("0", false)] {
        let failures = Failures::default();
        let spawner = mortal(&failures).env("RUST_BACKTRACE", asked);
        let client = spawner.spawn(Youth::Happy).await.expect("start a worker");

        let error = soon(client.die(Ending::Panic)).await.expect_err("it panics");
        drop(soon(client.die_in_a_thread(Ending::Panic)).await);

        let CallErrorKind::Panicked(in_a_call) = error.kind() else { panic!("{error}") };
        let failure = failures.first().await;
        for panic in [in_a_call, failure.panic().expect("it was a panic")] {
            let backtrace = panic.backtrace.as_deref();
            assert_eq!(backtrace.is_some(), brought, "{panic}");
            assert!(backtrace.is_none_or(|it| it.contains("mortal::end")), "{backtrace:?}");
        }
    }
}

#[rpc_parallel::test]
async fn a_panic_while_a_worker_starts_is_told_whenever_it_comes() {
    for _ in 0..100 {
        let failures = Failures::default();
        let spawner = mortal(&failures).stderr(Redirect::null());

        let failure = match soon(spawner.spawn(Youth::Doomed(Ending::Panic))).await {
            Ok(_client) => failures.first().await,
            Err(error) => match error.kind() {
                SpawnErrorKind::Died(failure)
                | SpawnErrorKind::Connect(ConnectErrorKind::WorkerDied(failure)) => failure.clone(),
                kind => panic!("{kind:?}"),
            },
        };

        assert_eq!(failure.panic().map(|it| &*it.message), Some("it is over"), "{failure}");
    }
}

#[rpc_parallel::test]
async fn a_panic_that_says_too_much_is_told_cut_short() {
    let failures = Failures::default();
    let spawner = mortal(&failures).stderr(Redirect::null());
    let client = spawner.spawn(Youth::Happy).await.expect("start a worker");

    drop(soon(client.die_in_a_thread(Ending::PanicAtLength)).await);

    let failure = failures.first().await;
    let PanicReport { message, location, .. } = failure.panic().expect("it was a panic");
    let said = message.strip_prefix("it is over").and_then(|it| it.strip_suffix(" .."));
    let len = said.map(str::len);
    assert!(len.is_some_and(|it| (10_000..1_000_000).contains(&it)), "{len:?}");
    assert!(location.as_deref().is_some_and(|it| it.contains("mortal.rs:")), "{location:?}");
}

#[rpc_parallel::test]
async fn a_panic_in_a_call_is_for_its_caller_and_no_failure() {
    let failures = Failures::default();
    let client = start(&failures).await;

    for how in [Ending::Panic, Ending::PanicInDrop] {
        let error = soon(client.die(how)).await.expect_err("it panics");

        assert!(matches!(error.kind(), CallErrorKind::Panicked(_)), "{error}");
    }

    assert_eq!(client.double(2).await, Ok(4));
    assert_eq!(all_failures(&failures).await, []);
}

#[rpc_parallel::test]
async fn a_panic_that_somebody_handles_is_no_failure() {
    let failures = Failures::default();
    let client = start(&failures).await;

    let thread = soon(client.panic_safely(Handled::Thread)).await;
    let caught = soon(client.panic_safely(Handled::Catch)).await;
    let blocking = soon(client.panic_safely(Handled::Blocking)).await;

    assert_eq!(thread, Ok("the thread panicked".into()));
    assert_eq!(caught, Ok("the function panicked".into()));
    // It is a panic of the function that waits for it.
    let Err(FunctionError::Call(error)) = blocking else { panic!("{blocking:?}") };
    let CallErrorKind::Panicked(PanicReport { message, location, .. }) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(message, "nothing to worry about");
    assert!(location.as_deref().is_some_and(|it| it.contains("mortal.rs:")), "{location:?}");
    assert_eq!(client.double(2).await, Ok(4));
    assert_eq!(all_failures(&failures).await, []);
}

#[test]
fn where_panics_abort_they_are_deaths_and_told_as_such() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let profile = ["--config", "profile.dev.panic='abort'"];
    let program = build(target, "aborting", "dev", &profile);

    for (place, panics) in [("call", 1), ("task", 1), ("thread", 1)] {
        let ended = Program::run(Command::new(&program).arg(place));

        assert!(ended.status.success(), "{ended:?}");
        let [called, told @ ..] = &ended.stdout[..] else { panic!("{ended:?}") };
        assert_eq!(told.len(), panics, "{ended:?}");
        for story in [called, &told[0]] {
            assert!(story.contains("was killed by signal 6 (SIGABRT)"), "{place}: {story}");
            assert!(story.contains("panicked at ") && story.contains("aborting.rs:"), "{story}");
            assert!(story.contains("where panics abort"), "{place}: {story}");
        }
    }
}
