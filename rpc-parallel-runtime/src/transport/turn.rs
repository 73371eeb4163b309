//! A task that gives its runtime a turn.

use std::pin::pin;
use std::task::Context;

/// Wakes a task after its runtime has run all other tasks that are ready, and has looked for events.
///
/// A task that wakes itself through its waker runs again before that: tokio looks for events once in
/// 61 polls of tasks, and polls the future of `block_on`, which is `main` in most programs, only
/// then.
pub(crate) fn wake_after_events(cx: &mut Context<'_>) {
    // Its first poll registers the task for after the next look. It is dropped, so this task is not
    // bound to poll it again.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn future_of_block_on_runs_before_task_that_wakes_itself() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = oneshot::channel();
        let (counted, mut sender) = (polls.clone(), Some(sender));

        let task = tokio::spawn(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            if let Some(sender) = sender.take() {
                sender.send(()).expect("the test waits for it");
            }
            wake_after_events(cx);
            Poll::<()>::Pending
        }));
        receiver.await.expect("the task sends before it is dropped");

        assert_eq!(polls.load(Ordering::Relaxed), 1);
        task.abort();
    }
}
