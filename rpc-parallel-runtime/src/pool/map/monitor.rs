//! The progress of a map as a stream of events, and its verdict at the end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::sync::watch;

use super::progress::Progress;
use super::verdict::Verdict;
use crate::pool::engine;

/// The time between two updates.
const PERIOD: Duration = Duration::from_millis(50);

/// The progress of a map while it runs, and its [`Verdict`] when it has finished. Made by
/// [`Map::monitor`](super::Map::monitor).
///
/// It is a stream of [`Progress`], about 20 times a second while something happens, and ends when
/// the map has finished. An update that is not read before the next one is skipped.
///
/// ```
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut map = square::map(0..1_000_000);
/// let mut monitor = map.monitor();
/// tokio::spawn({
///     let mut monitor = monitor.clone();
///     async move {
///         while let Some(progress) = monitor.next().await {
///             eprintln!("{progress}");
///         }
///     }
/// });
/// let squares: Vec<u64> = map.collect().await?;
/// if let Some(verdict) = monitor.finished().await {
///     println!("{verdict}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Monitor {
    state: watch::Receiver<State>,
    /// Waits for the next update.
    changed: Option<Changed>,
}

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<State>> + Send>>;

#[derive(Clone, Default)]
struct State {
    progress: Progress,
    verdict: Option<Arc<Verdict>>,
}

impl Monitor {
    /// Returns the progress as of the last update.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.state.borrow().progress
    }

    /// Waits for the next update. Returns `None` after the map has finished.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future loses no update.
    pub async fn next(&mut self) -> Option<Progress> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().progress)
    }

    /// Returns what the map says of itself. Returns `None` while it runs, and if it was dropped
    /// before it began.
    ///
    /// A map has finished when its last result was returned, or when it was dropped.
    #[must_use]
    pub fn verdict(&self) -> Option<Arc<Verdict>> {
        self.state.borrow().verdict.clone()
    }

    /// Waits until the map has finished, and returns what it says of itself. Returns `None` if it
    /// was dropped before it began.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future has no effect.
    pub async fn finished(&mut self) -> Option<Arc<Verdict>> {
        let state = self.state.wait_for(|it| it.verdict.is_some()).await.ok()?;
        state.verdict.clone()
    }
}

impl Clone for Monitor {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), changed: None }
    }
}

impl Stream for Monitor {
    type Item = Progress;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        let Self { state, changed } = &mut *self;
        let waiting = changed.get_or_insert_with(|| {
            let mut state = state.clone();
            Box::pin(async move {
                // An error means that the map has finished.
                let _ = state.changed().await;
                state
            })
        });
        let Poll::Ready(seen) = waiting.as_mut().poll(cx) else { return Poll::Pending };
        (*changed, *state) = (None, seen);
        match state.has_changed() {
            Ok(true) => Poll::Ready(Some(state.borrow_and_update().progress)),
            Ok(false) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(_) => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// The end of a [`Monitor`] that the task of a map has.
#[derive(Default)]
pub(super) struct Reporter {
    state: watch::Sender<State>,
    updated: Option<Instant>,
}

impl Reporter {
    pub(super) fn monitor(&self) -> Monitor {
        Monitor { state: self.state.subscribe(), changed: None }
    }

    /// Publishes the progress, if a monitor exists and some time has passed since the last update.
    pub(super) fn update(&mut self, now: Instant, progress: impl FnOnce() -> engine::Progress) {
        if self.state.receiver_count() == 0 || self.updated.is_some_and(|it| now - it < PERIOD) {
            return;
        }
        self.updated = Some(now);
        let progress = progress().into();
        self.state.send_modify(|it| it.progress = progress);
    }

    /// Publishes the end of the map.
    pub(super) fn finish(&self, progress: engine::Progress, verdict: engine::VerdictData) {
        let progress = Progress { is_finished: true, ..progress.into() };
        let verdict = Some(Arc::new(Verdict::new(verdict, progress)));
        self.state.send_replace(State { progress, verdict });
    }
}
