//! What a function can know of the connection that calls it.

use std::fmt;
use std::future::pending;
use std::ops::Deref;
use std::sync::Arc;

use tokio::time::Instant;

use super::registry::WorkerType;
use crate::connection::CallScope;
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// The connection on which a function is called, the state of it, and the call itself.
///
/// A function that takes a `&Context<C>` sees the [`ConnectionState`](super::ConnectionState) `C`
/// through it. The client's function has no such argument.
///
/// ```text
/// #[worker(no_cancel)]
/// async fn compact(&self, cx: &Context) -> Report {
///     let mut report = Report::default();
///     for file in self.files() {
///         if cx.is_cancelled() {
///             break; // nobody waits for it: leave the rest, tidily
///         }
///         report.add(self.compact_file(file).await);
///     }
///     report
/// }
/// ```
pub struct Context<C = ()> {
    connection: Arc<Connection<C>>,
    call: Option<Arc<CallScope>>,
}

/// The part that all calls of a connection share.
struct Connection<C> {
    state: C,
    server: ServerInfo,
}

/// The server that a connection leads to.
#[derive(Clone)]
pub(crate) struct ServerInfo {
    pub(crate) id: WorkerId,
    pub(crate) worker_type: &'static WorkerType,
    pub(crate) label: Arc<WorkerLabel>,
    pub(crate) settings: Settings,
}

impl<C> Context<C> {
    pub(super) fn new(state: C, server: ServerInfo) -> Self {
        Self { connection: Arc::new(Connection { state, server }), call: None }
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.connection.server
    }

    pub(super) fn of_call(&self, call: Arc<CallScope>) -> Self {
        Self { connection: self.connection.clone(), call: Some(call) }
    }

    /// Returns the state of the connection.
    pub fn state(&self) -> &C {
        &self.connection.state
    }

    /// Returns the id of the worker.
    ///
    /// [`Worker::current`](crate::Worker::current) makes a handle of the worker.
    pub fn worker_id(&self) -> WorkerId {
        self.server().id
    }

    /// Returns the settings of the connection, which are those of the worker.
    pub fn settings(&self) -> Settings {
        self.server().settings
    }

    /// Returns until when the caller waits, if it does not wait for ever.
    ///
    /// Calls that the function makes inherit it, but for those of tasks that it spawns. A one-way
    /// function has none.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.as_ref()?.deadline()
    }

    /// Says whether the caller wants no answer any more: it has dropped the call, or its time is
    /// over.
    ///
    /// A worker on one thread learns it only while its functions wait for something.
    pub fn is_cancelled(&self) -> bool {
        self.call.as_ref().is_some_and(|it| it.is_cancelled())
    }

    /// Waits until the caller wants no answer any more.
    ///
    /// A function that may be cancelled is dropped at its next await point then; this is for
    /// functions with `#[worker(no_cancel)]`, and for tasks that a function has spawned. It never
    /// ends for a call that is answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn cancelled(&self) {
        match &self.call {
            Some(call) => call.cancelled().await,
            None => pending().await,
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for Context<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("state", self.state())
            .field("worker_id", &self.worker_id())
            .field("deadline", &self.deadline())
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

impl<C> Deref for Context<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.state()
    }
}

/// [`Context`], and nothing else of that name.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `rpc_parallel::Context`",
    label = "another type called `Context`",
    note = "a function of a worker trait sees its connection through `&rpc_parallel::Context<..>`; \
            give the other type another name: `use .. as ..`"
)]
pub trait IsContext {
    type State;

    fn of(context: &Context<Self::State>) -> &Self;
}

impl<C> IsContext for Context<C> {
    type State = C;

    fn of(context: &Self) -> &Self {
        context
    }
}

/// Gives a function the context that it asks for.
#[doc(hidden)]
pub fn context<C, S>(context: &Context<S>) -> &C
where
    C: IsContext<State = S>,
{
    C::of(context)
}
