//! How much time a call has, at both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{connected, settle, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{CallErrorKind, Pipe};
use crate::wire::FunctionInfo;

/// Answers how many milliseconds it has.
const LEFT: &FunctionInfo = &function("left");
/// Waits for ever.
const WAIT: &FunctionInfo = &function("wait");
/// Reads a pipe to its end.
const READ: &FunctionInfo = &function("read");

const SECOND: Duration = Duration::from_secs(1);

fn functions() -> (Functions, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let dropping = dropped.clone();
    let functions = Functions::default()
        .with_scope(LEFT, async |(): (), scope| {
            scope.deadline().map(|it| (it - Instant::now()).as_millis() as u64)
        })
        .with(WAIT, move |(): ()| {
            let counted = Counted(dropping.clone());
            async move {
                let _counted = counted;
                std::future::pending::<()>().await;
            }
        })
        .with(READ, async |mut pipe: Pipe<u64>| while pipe.next().await.is_some() {});
    (functions, dropped)
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_learns_how_much_time_it_has() {
    let connected = connected(1024, functions().0).await;

    let left = call::<_, Option<u64>>(&connected.client, LEFT, ());

    assert_eq!(left.await.expect("it is answered"), None);
    let left = call::<_, Option<u64>>(&connected.client, LEFT, ()).timeout(SECOND);
    assert_eq!(left.await.expect("it is answered"), Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_call_inside_a_function_has_no_more_time_than_the_function() {
    const NESTED: &FunctionInfo = &function("nested");
    const FREE: &FunctionInfo = &function("free");
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
        .with(FREE, move |(): ()| {
            let call = call::<_, Option<u64>>(&other, LEFT, ()).without_inherited_deadline();
            async { call.await.ok().flatten() }
        });
    let outer = connected(1024, outer).await;

    let nested = call::<_, Option<u64>>(&outer.client, NESTED, ()).timeout(SECOND);

    assert_eq!(nested.await.expect("it is answered"), Some(750));
    let free = call::<_, Option<u64>>(&outer.client, FREE, ()).timeout(SECOND);
    assert_eq!(free.await.expect("it is answered"), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_stops_its_function() {
    let (functions, dropped) = functions();
    let connected = connected(1024, functions).await;

    let waiting = call::<_, ()>(&connected.client, WAIT, ()).timeout(SECOND);

    let error = soon("the time", waiting).await.expect_err("it waits longer");
    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: SECOND, unsent: None });
    settle().await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_pipe_that_times_out_ends_the_pipe() {
    let connected = connected(1024, functions().0).await;
    let (writer, pipe) = Pipe::<u64>::pair();

    let reading = call::<_, ()>(&connected.client, READ, pipe).timeout(SECOND);

    soon("the time", reading).await.expect_err("nobody writes");
    soon("word of it", writer.closed()).await;
    settle().await;
    connected.assert_no_streams();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_no_time_never_begins() {
    let (functions, dropped) = functions();
    let connected = connected(1024, functions).await;

    let waiting = call::<_, ()>(&connected.client, WAIT, ()).timeout(Duration::ZERO);

    let error = soon("the time", waiting).await.expect_err("there is none");
    assert_eq!(error.kind(), &CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None });
    settle().await;
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}
