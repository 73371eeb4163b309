//! What a generated client says of itself and of its functions.

use std::sync::Arc;

use super::arguments::Arguments;
use super::builtin;
use crate::connection::{Answer, Call, CallErrorKind, CallFailure, Client, Pipe, PipeWriter};
use crate::wire::{Codec, FunctionInfo, Message, WorkerId, WorkerLabel, WorkerTrait, codec};

/// A generated client: what all of them can do.
///
/// Clients are cheap to clone; the clones share one connection, which ends when the last clone is
/// dropped, and the last call and the last pipe that was made by it. Where the worker is
/// [restarted](crate::RestartPolicy), a connection that is lost is replaced.
pub trait WorkerClient: Clone + Send + Sync + 'static {
    /// The state of its connections; `()` where no function takes a `Context`.
    type Connection;

    /// The trait that it was generated from.
    #[doc(hidden)]
    const WORKER_TRAIT: WorkerTrait;

    #[doc(hidden)]
    fn from_client(client: Client) -> Self;

    /// Returns the connection behind it.
    fn client(&self) -> &Client;

    /// Returns the id of the worker at the other end.
    fn worker_id(&self) -> WorkerId {
        self.client().worker_id()
    }

    /// Returns the name, type and process of the worker at the other end; of the last one, while it
    /// is restarted.
    fn label(&self) -> Arc<WorkerLabel> {
        self.client().label()
    }

    /// Closes the connection, after the calls that have been sent. No other replaces it.
    ///
    /// Calls that wait for an answer fail, and pipes end with an error, on both sides. A worker that
    /// lives with this connection ends.
    fn close(&self) {
        self.client().close();
    }

    /// Says whether the connection is closed or lost, and not to be replaced.
    fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Waits until the connection is closed or lost, and not to be replaced, and says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    fn closed(&self) -> impl Future<Output = CallErrorKind> + Send {
        self.client().closed()
    }

    /// Asks the worker to take no new connections.
    ///
    /// Those that there are go on. The worker's handles lead nowhere from then on; unless it
    /// lives with its connection, its process ends with the last of them.
    fn close_server(&self) -> Call<()> {
        builtin::close_server(self.client())
    }
}

/// One function of a client; `F` tells them apart.
#[doc(hidden)]
pub trait Declares<F>: WorkerClient {
    /// One `Codec` for each argument.
    type Codecs: Arguments;

    /// The result as written.
    type Returns;

    /// What a caller gets.
    type Output;

    /// What a caller gets instead.
    type Error: CallFailure;

    const FUNCTION: FunctionInfo;
    const CODECS: Self::Codecs;
    const ANSWER: Answer<Self::Returns, Self::Output, Self::Error>;
}

/// Makes the codec of a pipe. If its elements cannot travel they are blamed, and not the pipe.
#[doc(hidden)]
#[must_use]
pub const fn pipe_codec<T: Message>() -> Codec<Pipe<T>> {
    codec()
}

/// Makes the codec of a pipe's writer, as [`pipe_codec`] does.
#[doc(hidden)]
#[must_use]
pub const fn writer_codec<T: Message>() -> Codec<PipeWriter<T>> {
    codec()
}

/// Makes a call: the body of every generated function.
#[doc(hidden)]
pub fn call<C: Declares<F>, F>(
    client: &C,
    arguments: <C::Codecs as Arguments>::Borrowed<'_>,
) -> Call<C::Output, C::Error> {
    let function = const { &C::FUNCTION };
    Call::new(client.client(), function, C::ANSWER, |sink| C::CODECS.encode(arguments, sink))
}
