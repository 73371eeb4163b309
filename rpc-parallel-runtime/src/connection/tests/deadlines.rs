//! Deadlines of calls, as both ends of a connection see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{connected, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{CallErrorKind, Pipe};
use crate::wire::FunctionInfo;

/// Returns its remaining time in milliseconds.
const LEFT: &FunctionInfo = &function("left");
/// Never returns.
const WAIT: &FunctionInfo = &function("wait");
/// Reads a pipe to its end.
const READ: &FunctionInfo = &function("read");

const SECOND: Duration = Duration::from_secs(1);

fn functions() -> (Functions, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let of_wait = dropped.clone();
    let functions = Functions::default()
        .with_scope(LEFT, async |(): (), scope| {
            scope.deadline().map(|it| (it - Instant::now()).as_millis() as u64)
        })
        .with(WAIT, move |(): ()| {
            let count_drop = CountDrop(of_wait.clone());
            async move {
                let _count_drop = count_drop;
                std::future::pending::<()>().await;
            }
        })
        .with(READ, async |mut pipe: Pipe<u64>| while pipe.next().await.is_some() {});
    (functions, dropped)
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn function_sees_its_remaining_time() {
    let connected = connected(1024, functions().0).await;

    let without_timeout = call::<_, Option<u64>>(&connected.client, LEFT, ()).await;
    let with_timeout = call::<_, Option<u64>>(&connected.client, LEFT, ()).timeout(SECOND).await;

    assert_eq!(without_timeout.expect("the call succeeds"), None);
    assert_eq!(with_timeout.expect("the call succeeds"), Some(1000));
}

#[tokio::test(start_paused = true)]
async fn nested_call_inherits_deadline_unless_opted_out() {
    const NESTED: &FunctionInfo = &function("nested");
    const OPTED_OUT: &FunctionInfo = &function("opted_out");
    let inner = connected(1024, functions().0).await;
    let [one, other] = [(); 2].map(|()| inner.client.clone());
    let outer = Functions::default()
        .with(NESTED, move |(): ()| {
            let client = one.clone();
            async move {
                sleep(SECOND / 4).await;
                call::<_, Option<u64>>(&client, LEFT, ()).timeout(9 * SECOND).await.ok().flatten()
            }
        })
        .with(OPTED_OUT, move |(): ()| {
            let call = call::<_, Option<u64>>(&other, LEFT, ()).without_inherited_deadline();
            async { call.await.ok().flatten() }
        });
    let outer = connected(1024, outer).await;

    let nested = call::<_, Option<u64>>(&outer.client, NESTED, ()).timeout(SECOND).await;
    let opted_out = call::<_, Option<u64>>(&outer.client, OPTED_OUT, ()).timeout(SECOND).await;

    assert_eq!(nested.expect("the call succeeds"), Some(750));
    assert_eq!(opted_out.expect("the call succeeds"), None);
}

#[tokio::test(start_paused = true)]
async fn timed_out_call_stops_its_function() {
    let (functions, dropped) = functions();
    let connected = connected(1024, functions).await;

    let waiting = call::<_, ()>(&connected.client, WAIT, ()).timeout(SECOND);
    let error = soon("the timeout", waiting).await.expect_err("the function never returns");

    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: SECOND, unsent: None, kill: None });
    settle().await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn timed_out_call_ends_its_argument_pipe() {
    let connected = connected(1024, functions().0).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    let reading = call::<_, ()>(&connected.client, READ, pipe).timeout(SECOND);

    soon("the timeout", reading).await.expect_err("the pipe never ends");
    soon("the writer to close", writer.closed()).await;
    settle().await;
    connected.assert_no_open_streams();
}

#[tokio::test(start_paused = true)]
async fn call_with_zero_timeout_never_starts() {
    let (functions, dropped) = functions();
    let connected = connected(1024, functions).await;

    let waiting = call::<_, ()>(&connected.client, WAIT, ()).timeout(Duration::ZERO);
    let error = soon("the timeout", waiting).await.expect_err("the timeout is zero");

    assert_eq!(
        error.kind(),
        &CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None, kill: None }
    );
    settle().await;
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}
