//! The context of a function: the connection on which it is called, and the call itself.

use std::fmt;
use std::future::pending;
use std::ops::Deref;
use std::sync::Arc;

use tokio::time::Instant;

#[cfg(feature = "pool")]
use super::items::ItemScope;
use super::worker_type::WorkerType;
use crate::connection::CallScope;
use crate::wire::{Codec, Message, Settings, WorkerId, WorkerLabel, codec};

/// The context in which a worker function is called: the connection, its state, and the call.
///
/// A function that takes a `&Context<C>` has access to the
/// [`ConnectionState`](super::ConnectionState) `C` of its connection; `Context` dereferences to it.
/// The client's function does not have this argument.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Store {
///     /// Compacts files until the caller cancels the call. Returns how many are done.
///     #[worker(no_cancel)]
///     async fn compact(&self, cx: &Context) -> usize;
/// }
///
/// #[derive(Default, WorkerState)]
/// struct Disk {
///     files: Vec<std::path::PathBuf>,
/// }
///
/// #[rpc_parallel::worker]
/// impl Store for Disk {
///     async fn compact(&self, cx: &Context) -> usize {
///         let mut done = 0;
///         for file in &self.files {
///             if cx.is_cancelled() {
///                 break;
///             }
///             // .. compact the file
/// #           let _ = file;
///             done += 1;
///             tokio::task::yield_now().await; // lets the worker receive the cancellation
///         }
///         done
///     }
/// }
/// ```
pub struct Context<C = ()> {
    connection: Arc<Connection<C>>,
    call: Option<Arc<CallScope>>,
    #[cfg(feature = "pool")]
    attempt: u32,
}

/// The part of the context that is the same for all calls of a connection.
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
        Self {
            connection: Arc::new(Connection { state, server }),
            call: None,
            #[cfg(feature = "pool")]
            attempt: 0,
        }
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.connection.server
    }

    pub(super) fn of_call(&self, call: Arc<CallScope>) -> Self {
        Self {
            connection: self.connection.clone(),
            call: Some(call),
            #[cfg(feature = "pool")]
            attempt: 0,
        }
    }

    #[cfg(feature = "pool")]
    pub(super) fn of_item(&self, item: &ItemScope) -> Self {
        Self { attempt: item.attempt, ..self.of_call(item.scope.clone()) }
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

    /// Returns the deadline of the call: the time at which the caller stops waiting for the answer.
    ///
    /// The caller sets it by [`timeout`](crate::Call::timeout), or inherits it from the function in
    /// which it makes the call. Returns `None` if the call has no deadline, and in one-way
    /// functions.
    ///
    /// Calls that the function makes inherit the deadline. Calls in tasks that it spawns do not.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.as_ref()?.deadline()
    }

    /// Returns how many workers have died while they ran the current item of a map.
    ///
    /// It is 0 in the first attempt of an item, and in calls. [`attempt`](crate::attempt) returns
    /// the same for functions without a context.
    #[cfg(feature = "pool")]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the call is cancelled: the caller has dropped it, or its deadline has
    /// passed.
    ///
    /// A worker with a single-threaded runtime receives the cancellation only while its functions
    /// await something.
    pub fn is_cancelled(&self) -> bool {
        self.call.as_ref().is_some_and(|it| it.is_cancelled())
    }

    /// Waits until the call is cancelled: the caller has dropped it, or its deadline has passed.
    ///
    /// This is for functions with `#[worker(no_cancel)]`, and for tasks that a function has
    /// spawned. Other functions are dropped at their next await point when their call is cancelled.
    /// The future never completes for a call that is answered, and for one-way calls.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future has no effect.
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

/// Implemented by [`Context`] only, so that another type of that name is a compile error.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `rpc_parallel::Context`",
    label = "another type called `Context`",
    note = "worker functions take their context as `&rpc_parallel::Context<..>`; import other types \
            called `Context` under another name: `use .. as ..`"
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

/// The bound of an argument type that is called `Context` and is not borrowed. All types that
/// travel implement it, and [`Context`] does not.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "context `{Self}` must be borrowed as `&{Self}`",
    label = "write `&` before the type",
    note = "the worker supplies the `rpc_parallel::Context` of a function, and callers do not pass it; \
            another type called `Context` must implement `serde::Serialize` and \
            `serde::Deserialize` to be an argument"
)]
pub trait TravelsAsContext: Message {}

#[diagnostic::do_not_recommend]
impl<T: Message> TravelsAsContext for T {}

/// Makes the codec of an argument whose type is called `Context` and is not borrowed.
#[doc(hidden)]
#[must_use]
pub const fn context_codec<T: TravelsAsContext>() -> Codec<T> {
    codec()
}

/// Converts the context of a call to the type in the function's signature.
#[doc(hidden)]
pub fn context<C, S>(context: &Context<S>) -> &C
where
    C: IsContext<State = S>,
{
    C::of(context)
}
