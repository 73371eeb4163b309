//! What a function can know of the connection that calls it.

use std::ops::Deref;

use crate::wire::WorkerId;

/// The connection on which a function is called, and the state of it.
///
/// A function that takes a `&Context<C>` sees the [`ConnectionState`](super::ConnectionState) `C`
/// through it. The client's function has no such argument.
#[derive(Debug)]
pub struct Context<C = ()> {
    state: C,
    worker_id: WorkerId,
}

impl<C> Context<C> {
    pub(super) fn new(state: C, worker_id: WorkerId) -> Self {
        Self { state, worker_id }
    }

    /// Returns the state of the connection.
    pub fn state(&self) -> &C {
        &self.state
    }

    /// Returns the id of the worker that is called.
    pub fn worker_id(&self) -> WorkerId {
        self.worker_id
    }
}

impl<C> Deref for Context<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.state
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
