//! A client whose connection is replaced when it is lost, and the task that does so.
//!
//! How the next connection comes about, after how long, and when it is no longer worth it, is up to
//! a [`Reconnect`] of a layer above.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use super::caller::Caller;
use super::client::{Client, Hold, Link};
use super::failure::Loss;
use super::task::task;
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// Makes the connections that follow a lost one.
pub(crate) trait Reconnect: Send + 'static {
    /// Makes the next connection, or says why there will be none.
    ///
    /// # Cancel safety
    ///
    /// It is dropped when nobody wants a connection any more, and leaves nothing then.
    fn reconnect(&mut self, lost: Arc<Loss>) -> Reconnecting<'_>;
}

/// A connection that takes the place of a lost one.
pub(crate) type Reconnecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, Loss>> + Send + 'a>>;

/// A connection that calls can go over.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// Says whether the worker is known to be dead. Whoever has learned that calls it no more,
    /// even if its connection has not broken yet.
    pub(crate) is_dead: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What the clones of a supervised client share. It ends with the last of them, and the last of
/// their calls that wait for a connection.
pub(super) struct RestartableLink {
    id: WorkerId,
    settings: Settings,
    phase: watch::Sender<Phase>,
}

/// Where calls go.
enum Phase {
    Up(Up),
    /// The connection to this worker was lost, and calls wait for the next.
    Down(Arc<WorkerLabel>, Arc<Loss>),
    /// There will be no other.
    Over(Arc<WorkerLabel>, Arc<Loss>),
}

struct Up {
    hold: Arc<Hold>,
    is_dead: Box<dyn Fn() -> bool + Send + Sync>,
}

impl RestartableLink {
    /// Begins to replace a connection whenever it is lost.
    pub(super) fn begin(first: Connected, reconnect: Box<dyn Reconnect>) -> Arc<Self> {
        let up = Up::new(first);
        let caller = up.hold.0.clone();
        let (id, settings) = (caller.id, caller.connection.settings);
        let phase = watch::Sender::new(Phase::Up(up));
        let supervisor = RestartTask { phase: phase.clone(), reconnect };
        // It ends when the phase is over, and sees to it that it is when it ends.
        tokio::spawn(task(supervisor.run(caller)));
        Arc::new(Self { id, settings, phase })
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn label(&self) -> Arc<WorkerLabel> {
        self.phase.borrow().label().clone()
    }

    /// Returns the connection that a call goes over now; none if it must wait for the next.
    ///
    /// # Errors
    ///
    /// There will be none any more.
    pub(super) fn connection(&self) -> Option<Result<Arc<Hold>, Arc<Loss>>> {
        match &*self.phase.borrow() {
            Phase::Up(up) if up.is_lost() => None,
            Phase::Up(up) => Some(Ok(up.hold.clone())),
            Phase::Down(..) => None,
            Phase::Over(_, loss) => Some(Err(loss.clone())),
        }
    }

    /// Tells why calls wait for a connection, for a sentence about a call.
    pub(super) fn why_reconnecting(&self) -> String {
        let again = "its worker is being restarted";
        match &*self.phase.borrow() {
            Phase::Down(_, loss) => match &**loss {
                Loss::Died(failure) => format!("{again}, because it {}", failure.story()),
                Loss::Broken(why) | Loss::Failed(why) => {
                    format!("{again}, because the connection was lost: {why}")
                }
                Loss::Closed | Loss::RestartLimitReached(_) => again.to_owned(),
            },
            Phase::Up(_) | Phase::Over(..) => again.to_owned(),
        }
    }

    /// Waits until calls need not wait for a connection.
    pub(super) fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut phase = self.phase.subscribe();
        Box::pin(async move {
            // The phase is over before the last sender is dropped.
            let _ = phase.wait_for(|it| !it.is_between()).await;
        })
    }

    /// Closes the connection, after the calls that have been sent, and makes no other.
    pub(super) fn close(&self) {
        if let Some(Phase::Up(up)) = end(&self.phase, Loss::Closed) {
            up.hold.0.close();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase.borrow().is_over()
    }

    /// Waits until there is no connection any more, and will be none.
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
        // What holds the connection is dropped here, not when the supervisor comes to it.
        drop(end(&self.phase, Loss::Closed));
    }
}

impl Up {
    fn new(Connected { client, is_dead }: Connected) -> Self {
        let Link::Fixed(hold) = client.0 else {
            unreachable!("a connection that is replaced is none that replaces itself")
        };
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

    /// Says whether there is no connection, but will be one.
    fn is_between(&self) -> bool {
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

/// Goes on to another phase, unless all is over, and returns what was before.
fn go_on(
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

fn end(phase: &watch::Sender<Phase>, loss: Loss) -> Option<Phase> {
    go_on(phase, |label| Phase::Over(label, Arc::new(loss)))
}

/// Replaces connections until all is over.
struct RestartTask {
    phase: watch::Sender<Phase>,
    reconnect: Box<dyn Reconnect>,
}

impl RestartTask {
    async fn run(mut self, mut caller: Arc<Caller>) {
        while let Some(loss) = unless_over(&self.phase, caller.over()).await {
            if go_on(&self.phase, |label| Phase::Down(label, loss.clone())).is_none() {
                return;
            }
            let reconnecting = self.reconnect.reconnect(loss);
            match unless_over(&self.phase, reconnecting).await {
                Some(Ok(connected)) => {
                    let up = Up::new(connected);
                    caller = up.hold.0.clone();
                    // Dropped here if all is over, and with it what it holds.
                    go_on(&self.phase, |_| Phase::Up(up));
                }
                Some(Err(loss)) => {
                    end(&self.phase, loss);
                    return;
                }
                None => return,
            }
        }
    }
}

impl Drop for RestartTask {
    fn drop(&mut self) {
        let why = "the tokio runtime that supervised the worker was shut down";
        end(&self.phase, Loss::Broken(why.to_owned()));
    }
}

/// Waits for something, but not when all is over.
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
        f.debug_struct("Supervised")
            .field("worker", &self.label().to_string())
            .finish_non_exhaustive()
    }
}
