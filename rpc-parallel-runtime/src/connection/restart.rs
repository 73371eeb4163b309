//! Connections that are replaced when they are lost, and the reconnect task that replaces them.
//!
//! An implementation of [`Reconnect`], in a higher layer, makes the next connection. It decides on
//! the delay before the attempt, and returns an error if the connection is not replaced.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use super::caller::{Caller, Hold};
use super::failure::Loss;
use super::task::task;
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// Makes the connections that follow a lost one.
pub(crate) trait Reconnect: Send + 'static {
    /// Makes the next connection.
    ///
    /// # Errors
    ///
    /// The connection is not replaced. The reason is returned.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the connection is closed. Dropping it must end a process that it
    /// has started.
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_>;
}

/// The future of a connection that replaces a lost one.
pub(crate) type Reconnecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, Loss>> + Send + 'a>>;

/// An open connection.
pub(crate) struct Connected {
    pub(super) hold: Arc<Hold>,
    /// Returns whether the worker's process has exited or is being killed. Then no new call is
    /// sent, even if the connection has not broken yet.
    pub(super) is_dead: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The connection of a worker with a restart policy. The clones of a client share it. It closes
/// when the last clone and the last call that waits for a connection are dropped.
pub(super) struct RestartableLink {
    id: WorkerId,
    settings: Settings,
    /// That of the first connection. The processes of a worker have the same settings.
    max_message_size: usize,
    phase: watch::Sender<Phase>,
}

/// The state of a restartable connection.
enum Phase {
    Up(Up),
    /// The connection was lost, and calls wait for the next.
    Down(Arc<WorkerLabel>, Arc<Loss>),
    /// The connection is closed or lost, and is not replaced.
    Over(Arc<WorkerLabel>, Arc<Loss>),
}

struct Up {
    hold: Arc<Hold>,
    is_dead: Box<dyn Fn() -> bool + Send + Sync>,
}

impl RestartableLink {
    /// Starts the reconnect task of a connection.
    pub(super) fn begin(first: Connected, reconnect: Box<dyn Reconnect>) -> Arc<Self> {
        let up = Up::new(first);
        let caller = up.hold.0.clone();
        let (id, settings) = (caller.id, caller.connection.settings);
        let max_message_size = caller.connection.max_message_size;
        let phase = watch::Sender::new(Phase::Up(up));
        let reconnect_task = ReconnectTask { phase: phase.clone(), reconnect };
        // The task ends when the phase is `Over`. When it is dropped, it sets this phase.
        tokio::spawn(task(reconnect_task.run(caller)));
        Arc::new(Self { id, settings, max_message_size, phase })
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn max_message_size(&self) -> usize {
        self.max_message_size
    }

    pub(super) fn label(&self) -> Arc<WorkerLabel> {
        self.phase.borrow().label().clone()
    }

    /// Returns the current connection. Returns `None` while calls must wait for the next.
    ///
    /// # Errors
    ///
    /// The connection is closed or lost, and is not replaced.
    pub(super) fn connection(&self) -> Option<Result<Arc<Hold>, Arc<Loss>>> {
        match &*self.phase.borrow() {
            Phase::Up(up) if up.is_lost() => None,
            Phase::Up(up) => Some(Ok(up.hold.clone())),
            Phase::Down(..) => None,
            Phase::Over(_, loss) => Some(Err(loss.clone())),
        }
    }

    /// Returns why calls wait for a connection, to complete the text of a call's error.
    pub(super) fn why_reconnecting(&self) -> String {
        let restarting = "its worker is being restarted";
        match &*self.phase.borrow() {
            Phase::Down(_, loss) => match &**loss {
                Loss::Died(failure) => {
                    format!("{restarting}, because it {}", failure.describe_end())
                }
                Loss::Broken(why) | Loss::Failed(why) => {
                    format!("{restarting}, because the connection was lost: {why}")
                }
                Loss::Closed | Loss::RestartLimitReached(_) => restarting.to_owned(),
            },
            Phase::Up(_) | Phase::Over(..) => restarting.to_owned(),
        }
    }

    /// Returns a future that resolves when calls no longer wait for a connection.
    pub(super) fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut phase = self.phase.subscribe();
        Box::pin(async move {
            // `wait_for` fails only after the last sender is dropped. The phase is `Over` by then.
            let _ = phase.wait_for(|it| !it.is_reconnecting()).await;
        })
    }

    /// Closes the connection after all queued frames, and does not replace it.
    pub(super) fn close(&self) {
        if let Some(Phase::Up(up)) = set_over(&self.phase, Loss::Closed) {
            up.hold.0.close();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase.borrow().is_over()
    }

    /// Waits until the connection is closed, or lost and not replaced.
    pub(super) async fn over(&self) -> Arc<Loss> {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(Phase::is_over).await.as_deref() {
            Ok(Phase::Over(_, loss)) => loss.clone(),
            Ok(_) | Err(_) => Arc::new(Loss::Closed),
        }
    }
}

impl Drop for RestartableLink {
    fn drop(&mut self) {
        // The hold on the connection is dropped here, and not later by the reconnect task.
        drop(set_over(&self.phase, Loss::Closed));
    }
}

impl Up {
    fn new(Connected { hold, is_dead }: Connected) -> Self {
        Self { hold, is_dead }
    }

    fn is_lost(&self) -> bool {
        (self.is_dead)() || self.hold.0.is_lost()
    }
}

impl Phase {
    fn label(&self) -> &Arc<WorkerLabel> {
        match self {
            Self::Up(up) => &up.hold.0.label,
            Self::Down(label, _) | Self::Over(label, _) => label,
        }
    }

    /// Returns whether the connection is lost and will be replaced.
    fn is_reconnecting(&self) -> bool {
        match self {
            Self::Up(up) => up.is_lost(),
            Self::Down(..) => true,
            Self::Over(..) => false,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Over(..))
    }
}

/// Changes the phase, unless it is `Over`, and returns the previous one.
fn set_phase(
    phase: &watch::Sender<Phase>,
    next: impl FnOnce(Arc<WorkerLabel>) -> Phase,
) -> Option<Phase> {
    let mut before = None;
    phase.send_if_modified(|phase| {
        if phase.is_over() {
            return false;
        }
        let next = next(phase.label().clone());
        before = Some(std::mem::replace(phase, next));
        true
    });
    before
}

fn set_over(phase: &watch::Sender<Phase>, loss: Loss) -> Option<Phase> {
    set_phase(phase, |label| Phase::Over(label, Arc::new(loss)))
}

/// The reconnect task. It replaces lost connections until the phase is `Over`.
struct ReconnectTask {
    phase: watch::Sender<Phase>,
    reconnect: Box<dyn Reconnect>,
}

impl ReconnectTask {
    async fn run(mut self, mut caller: Arc<Caller>) {
        while let Some(loss) = unless_over(&self.phase, caller.over()).await {
            if set_phase(&self.phase, |label| Phase::Down(label, loss.clone())).is_none() {
                return;
            }
            let reconnecting = self.reconnect.reconnect(loss);
            match unless_over(&self.phase, reconnecting).await {
                Some(Ok(connected)) => {
                    let up = Up::new(connected);
                    caller = up.hold.0.clone();
                    // If the phase is `Over`, the new connection is dropped here.
                    set_phase(&self.phase, |_| Phase::Up(up));
                }
                Some(Err(loss)) => {
                    set_over(&self.phase, loss);
                    return;
                }
                None => return,
            }
        }
    }
}

impl Drop for ReconnectTask {
    fn drop(&mut self) {
        let why = "the tokio runtime that reconnects to the worker was shut down";
        set_over(&self.phase, Loss::Broken(why.to_owned()));
    }
}

/// Awaits a future. Returns `None` as soon as the phase is `Over`.
async fn unless_over<T>(
    phase: &watch::Sender<Phase>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut phase = phase.subscribe();
    let mut over = pin!(phase.wait_for(Phase::is_over));
    let mut future = pin!(future);
    poll_fn(|cx| match over.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

impl fmt::Debug for RestartableLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestartableLink")
            .field("worker", &self.label().to_string())
            .finish_non_exhaustive()
    }
}
