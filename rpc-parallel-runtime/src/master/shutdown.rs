//! The orderly end of a worker, asked for by who holds a client or a handle of it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use super::control_error::{ControlError, ControlErrorKind};
use super::reach::Reach;
use super::supervising::Restarted;
use crate::connection::{Client, Death};
use crate::launch::Children;

/// How long a worker has for its end, unless something else is said: as in the original.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The orderly end of a worker: a future that is ready when its process is gone.
///
/// It begins when it is first polled. The worker's
/// [`on_shutdown`](crate::WorkerState::on_shutdown) runs, then its connections end, then its
/// process. A worker that has not ended within the [`timeout`](Self::timeout), because a function
/// computes or `on_shutdown` waits, is told so by `SIGTERM`, and half a second later killed.
///
/// The output is how the process has ended, for who has started it: `Death::Exited(0)` where that was
/// in order. Others learn that it is [gone](Death::Gone); they are sure of it on the worker's own host,
/// and wait a few seconds longer than the timeout for a worker that does not listen, which its master
/// ends, or they themselves where it was [detached](crate::Spawner::start_detached) and this comes of
/// its handle.
///
/// # Cancel safety
///
/// Dropping it after it has been polled changes nothing: the worker ends.
#[must_use = "a worker ends when this is awaited"]
pub struct Shutdown {
    whom: Option<Reach>,
    within: Duration,
    running: Option<Pin<Box<Running>>>,
}

type Running = dyn Future<Output = Result<Death, ControlError>> + Send;

impl Shutdown {
    pub(super) fn new(whom: Reach) -> Self {
        Self { whom: Some(whom), within: TIMEOUT, running: None }
    }

    /// Gives the worker this much time to end in order; 10 seconds, if not said.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

impl Future for Shutdown {
    type Output = Result<Death, ControlError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let within = self.within;
        if let Some(whom) = self.whom.take() {
            self.running = Some(Box::pin(run(whom, within)));
        }
        match &mut self.running {
            Some(running) => running.as_mut().poll(cx),
            None => panic!("`Shutdown` polled after its end"),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("within", &self.within).finish_non_exhaustive()
    }
}

async fn run(whom: Reach, within: Duration) -> Result<Death, ControlError> {
    const TRIED: &str = "end";
    if let Some(restarted) = Restarted::find(whom.id) {
        match restarted.shutdown(within).await {
            Ok(death) => return Ok(death),
            Err(Some(given_up)) => {
                let kind = ControlErrorKind::WorkerDied(given_up.last);
                return Err(ControlError::new(whom.label, TRIED, kind));
            }
            Err(None) => {}
        }
    }
    if let Some(started) = Children::get().find(whom.id) {
        started.tell_to_end(within);
        if let Some(client) = whom.client.as_ref().filter(|it| it.is_between()) {
            // It is being started again, which is not wanted any more.
            client.close();
        }
        return started.ended().await.map_err(|failure| {
            // It had failed before, and shall not be started again.
            whom.client.iter().for_each(Client::close);
            ControlError::new(whom.label, TRIED, ControlErrorKind::WorkerDied(failure))
        });
    }
    if let Some(client) = &whom.client
        && client.is_between()
    {
        // It has died, and need not be started again for this.
        client.close();
        return Ok(Children::get().find_dead(whom.id).map_or(Death::Gone, |it| it.death()));
    }
    if let Some(failure) = Children::get().find_dead(whom.id) {
        let kind = ControlErrorKind::WorkerDied(failure);
        return Err(ControlError::new(whom.label, TRIED, kind));
    }
    let label = whom.label.clone();
    // A task, so that it goes on when the future that waits for it is dropped.
    let told = tokio::spawn(async move { whom.shut_down(within).await });
    let told = told.await.unwrap_or_else(|_| {
        let why = io::Error::other("the tokio runtime that told it has ended");
        Err(ControlErrorKind::Connect(ConnectErrorKind::Unreachable(why)))
    });
    told.map_err(|it| ControlError::new(label, TRIED, it))
}
