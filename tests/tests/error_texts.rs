//! What errors print: `Debug` like `Display`, causes once, the cure, and the worker's last lines.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use rpc_parallel::Settings;
use rpc_parallel::error::{
    CallErrorKind, Execution, ExitReason, PanicReport, SpawnErrorKind, TooLarge,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, call_error};
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use tokio::runtime::Builder;

/// Polls a future outside of a tokio runtime, and returns the message of its panic.
fn poll_without_runtime(future: impl Future) -> String {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    }));
    let panic = polled.expect_err("there is no runtime");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn awaiting_without_runtime_panics_with_cure() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("make a runtime");
    let served = runtime.block_on(Fixture::serve(Script::default())).expect("`init` succeeds");
    let pool = Fixture::pool().workers(1).spawn(Script::default());

    let messages = [
        ("starting a worker", poll_without_runtime(Fixture::spawn(Script::default()))),
        ("starting a worker", poll_without_runtime(Fixture::spawner().start(Script::default()))),
        ("serving a worker", poll_without_runtime(Fixture::serve(Script::default()))),
        ("connecting to a worker", poll_without_runtime(served.connect(()))),
        ("starting a pool", poll_without_runtime(pool)),
    ];

    for (subject, message) in messages {
        let expected =
            format!("{subject} requires a tokio runtime; await it in an `async fn main`");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[rpc_parallel::test]
async fn debug_of_call_error_prints_display() {
    let fixture = Fixture::spawn_ok(()).await;

    let error = call_error(fixture.run(Action::panic()).await);

    assert_eq!(format!("{error:?}"), error.to_string());
    let function_error: FunctionError<AnyError> = error.clone().into();
    assert_eq!(format!("{function_error:?}"), error.to_string());
    assert_eq!(function_error.call_error(), Some(&error));
}

#[rpc_parallel::test]
async fn source_of_call_error_is_structured_cause() {
    let settings = Settings::default().with_max_message_size(4096);
    let fixture = Fixture::spawner().settings(settings).spawn_ok(()).await;

    let too_large = fixture.length(&[0; 5000]).await.expect_err("5000 bytes exceed the limit");
    let panicked = call_error(fixture.run(Action::panic()).await);
    let exited = call_error(fixture.run(Action::Exit(7)).await);

    let source = |error: &CallError| error.source().map(ToString::to_string);
    assert!(too_large.source().is_some_and(<dyn Error>::is::<TooLarge>), "{too_large}");
    assert!(panicked.source().is_some_and(<dyn Error>::is::<PanicReport>), "{panicked}");
    let exit_reason = exited.source().and_then(|it| it.downcast_ref());
    assert_eq!(exit_reason, Some(&ExitReason::Exited(7)));
    for error in [too_large, panicked, exited] {
        let source = source(&error).expect("there is a source");
        assert!(error.to_string().contains(&source), "{error}");
    }
}

#[rpc_parallel::test]
async fn execution_tells_whether_call_may_be_repeated() {
    let settings = Settings::default().with_max_message_size(4096);
    let fixture = Fixture::spawner().settings(settings).spawn_ok(()).await;
    let second = Duration::from_millis(10);

    let too_large = fixture.length(&[0; 5000]).await.expect_err("5000 bytes exceed the limit");
    let large_result = fixture.bytes(5000).await.expect_err("5000 bytes exceed the limit");
    let late = fixture.wait().timeout(second).await.expect_err("the function waits forever");
    let panicked = call_error(fixture.run(Action::panic()).await);
    let exited = call_error(fixture.run(Action::Abort).await);
    let after_end = fixture.pid().await.expect_err("the worker has ended");

    assert_eq!(too_large.execution(), Execution::NotBegun);
    assert_eq!(large_result.execution(), Execution::MayHaveRun);
    assert_eq!(late.execution(), Execution::MayHaveRun);
    assert_eq!(panicked.execution(), Execution::MayHaveRun);
    assert_eq!(exited.execution(), Execution::WorkerGone);
    assert!(matches!(after_end.kind(), CallErrorKind::WorkerDied(_)), "{after_end}");
    assert_eq!(after_end.execution(), Execution::NotBegun);
}

#[rpc_parallel::test]
async fn failed_start_shows_last_lines_of_stderr() {
    let line = || Action::PrintToStderr("opening the database".to_owned());
    let short = Duration::from_millis(500);
    let spawner = || Fixture::spawner().name("storage");

    let failed = spawner().spawn(Script::init([line(), Action::Fail("no database".to_owned())]));
    let panicked = spawner().spawn(Script::init([line(), Action::panic()]));
    let late = spawner().init_timeout(short).spawn(Script::init([line(), Action::Wait]));
    let late_in_all = spawner().spawn_timeout(short).spawn(Script::init([line(), Action::Wait]));

    for (starting, kind) in [
        (failed, "its `init` failed: no database"),
        (panicked, "its `init` panicked at "),
        (late, "its `init` did not return within 500ms"),
        (late_in_all, "it was not ready within 500ms"),
    ] {
        let error = starting.await.expect_err("`init` does not succeed");

        let text = error.to_string();
        let worker = error.worker();
        assert!(text.starts_with(&format!("failed to start {worker}: {kind}")), "{text}");
        assert!(worker.starts_with("worker `storage` ("), "{worker}");
        assert!(text.contains("\n  | opening the database"), "{text}");
        assert!(error.stderr().iter().any(|it| it == "opening the database"), "{text}");
        assert_eq!(format!("{error:?}"), text);
    }
}

#[rpc_parallel::test]
async fn failed_redirect_names_its_file() {
    let spawner = Fixture::spawner().stderr(Redirect::append("/no/such/directory/log"));

    let error = spawner.spawn(Script::default()).await.expect_err("there is no such directory");

    let expected = "failed to redirect its stderr: failed to open `/no/such/directory/log`: ";
    assert!(error.to_string().contains(expected), "{error}");
}

#[rpc_parallel::test]
async fn spawn_error_includes_its_cause() {
    let spawner =
        Fixture::spawner().launcher(rpc_parallel::launch::WrapperLauncher::new("no such program"));

    let error = spawner.spawn(Script::default()).await.expect_err("there is no such program");

    assert!(matches!(error.kind(), SpawnErrorKind::Process { .. }), "{error}");
    let source = error.source().expect("a system call failed").to_string();
    assert!(error.to_string().ends_with(&source), "{error}");
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[rpc_parallel::test]
async fn invalid_settings_fail_where_they_are_used() {
    let settings = Settings::default().with_max_depth(0);

    let spawned = Fixture::spawner().settings(settings).spawn(Script::default()).await;
    let served = Fixture::server().settings(settings).serve(Script::default()).await;

    let expected = "invalid setting `max_depth`: expected a number from 1 to 4096, found `0`";
    for error in [spawned.err(), served.err()] {
        let error = error.expect("the settings are invalid");
        assert!(matches!(error.kind(), SpawnErrorKind::Settings(_)), "{error}");
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn any_error_is_made_of_every_error() {
    fn fail(number: u32) -> Result<(), AnyError> {
        match number {
            0 => Err("a text")?,
            1 => Err(format!("a text of {number}"))?,
            2 => Err(io::Error::other("the disk is full"))?,
            3 => Err(BoxError::from("a boxed error"))?,
            _ => Err(anyhow::anyhow!("the disk is full").context("failed to save"))?,
        }
        Ok(())
    }

    let texts = [0, 1, 2, 3, 4].map(|it| fail(it).expect_err("it fails").to_string());

    let expected = [
        "a text",
        "a text of 1",
        "the disk is full",
        "a boxed error",
        "failed to save: the disk is full",
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn try_next_gives_elements_and_the_end() {
    let (writer, mut pipe) = Pipe::pair();
    tokio::spawn(async move {
        writer.send(7).await.expect("the pipe is read");
        writer.fail("out of numbers");
    });

    assert_eq!(pipe.try_next().await.expect("an element was sent"), Some(7));
    assert!(pipe.try_next().await.is_err());
    assert_eq!(pipe.try_next().await.expect("the error was the last item"), None);
}
