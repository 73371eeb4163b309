//! The traits that generated clients implement.

use std::sync::Arc;

use super::arguments::Arguments;
use super::builtin;
#[cfg(feature = "pool")]
use crate::connection::SharedCall;
use crate::connection::{Answer, Call, CallErrorKind, CallFailure, Client, Pipe, PipeWriter};
use crate::wire::{Codec, FunctionInfo, Message, WorkerId, WorkerLabel, WorkerTrait, codec};

/// The functions that all generated clients have in common.
///
/// Cloning a client is cheap. All clones share one connection. It is closed when the last clone,
/// the last [`Call`] and the last pipe made through it are dropped. If the worker is
/// [restarted](crate::RestartPolicy), a lost connection is replaced by a new one.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
/// }
///
/// /// Closes the connection of any client, and waits until it is closed.
/// async fn close<C: WorkerClient>(client: &C) {
///     client.close();
///     let reason = client.closed().await;
///     println!("{}: {reason:?}", client.label());
/// }
/// # fn is_generic(client: &ArithmeticClient) { drop(close(client)); }
/// ```
pub trait WorkerClient: Clone + Send + Sync + 'static {
    /// The [state](crate::ConnectionState) of the client's connection. It is `()` if no function of
    /// the worker trait takes a [`Context`](crate::Context).
    type Connection;

    /// The target of a handle's `Deref`. It has the client's functions, and calling one of them is
    /// a compile error that names `connect`.
    #[doc(hidden)]
    type OnHandle<H: 'static>: OnHandle;

    /// The worker trait that the client was generated from.
    #[doc(hidden)]
    const WORKER_TRAIT: WorkerTrait;

    /// Returns the functions of the worker trait. Process functions are known only when the program
    /// runs.
    #[doc(hidden)]
    fn functions() -> &'static [FunctionInfo] {
        Self::WORKER_TRAIT.functions
    }

    #[doc(hidden)]
    fn from_client(client: Client) -> Self;

    /// Returns the untyped client.
    fn client(&self) -> &Client;

    /// Returns the id of the worker server that the client calls.
    fn worker_id(&self) -> WorkerId {
        self.client().worker_id()
    }

    /// Returns the label of the worker: its name, type, process id and host.
    ///
    /// While the worker is restarted, this is the label of its previous process.
    fn label(&self) -> Arc<WorkerLabel> {
        self.client().label()
    }

    /// Closes the connection, after sending the calls that were made. The connection is not
    /// replaced, even if the worker has a [`RestartPolicy`](crate::RestartPolicy).
    ///
    /// On both sides pending calls fail, and pipes end with an error. A worker that was started
    /// with [`spawn`](crate::Spawn::spawn) ends if this is its owning connection.
    fn close(&self) {
        self.client().close();
    }

    /// Returns whether the connection is closed or lost, and will not be replaced.
    fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Waits until the connection is closed or lost, and will not be replaced. Returns the reason.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future has no effect.
    fn closed(&self) -> impl Future<Output = CallErrorKind> + Send {
        self.client().closed()
    }

    /// Makes the worker server accept no new connections.
    ///
    /// Existing connections continue. [`Worker`](crate::Worker) handles of the server cannot
    /// connect any more. A worker that was started with [`spawn`](crate::Spawn::spawn) still ends
    /// with its owning connection. The process of any other worker ends with its last connection.
    ///
    /// # Errors
    ///
    /// The call fails if the worker has ended or the connection is lost.
    fn close_server(&self) -> Call<()> {
        builtin::close_server(self.client())
    }
}

/// The target of a handle's `Deref`: functions that cannot be called.
#[doc(hidden)]
pub trait OnHandle: 'static {
    const INSTANCE: &'static Self;
}

/// The target of a handle's `Deref` for a worker trait with a mistake.
#[doc(hidden)]
pub struct NoFunctions;

impl OnHandle for NoFunctions {
    const INSTANCE: &'static Self = &Self;
}

/// The bound of the functions that a handle has only for the sake of compile errors. No type
/// implements it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a handle, which has no worker functions",
    label = "call `connect` on the handle first",
    note = "`handle.connect(()).await?` returns a client, which has the worker functions"
)]
pub trait IsConnected {
    fn unreachable<T>() -> T;
}

/// A client that declares the function `F`.
#[doc(hidden)]
pub trait Declares<F>: WorkerClient {
    /// One [`Codec`] for each argument.
    type Codecs: Arguments;

    /// The result type as written in the worker trait.
    type Returns;

    /// The output of a successful call.
    type Output;

    /// The error of a failed call.
    type Error: CallFailure;

    const FUNCTION: FunctionInfo;
    const CODECS: Self::Codecs;
    const ANSWER: Answer<Self::Returns, Self::Output, Self::Error>;
}

/// The error that the function `F` of the client `C` returns.
#[cfg(feature = "pool")]
pub(crate) type FunctionErrorOf<C, F> = <<C as Declares<F>>::Error as CallFailure>::Function;

/// Creates the codec of a pipe. If its elements cannot travel, the compile error names their type
/// and not that of the pipe.
#[doc(hidden)]
#[must_use]
pub const fn pipe_codec<T: Message>() -> Codec<Pipe<T>> {
    codec()
}

/// Creates the codec of a pipe's writer, like [`pipe_codec`].
#[doc(hidden)]
#[must_use]
pub const fn writer_codec<T: Message>() -> Codec<PipeWriter<T>> {
    codec()
}

/// Creates a call. This is the body of every generated client function.
#[doc(hidden)]
pub fn call<C: Declares<F>, F>(
    client: &C,
    arguments: <C::Codecs as Arguments>::Borrowed<'_>,
) -> Call<C::Output, C::Error> {
    let function = const { &C::FUNCTION };
    Call::new(client.client(), function, C::ANSWER, |sink| C::CODECS.encode(arguments, sink))
}

/// Encodes the message of calls to several workers. `max` is the largest `max_message_size` of the
/// workers.
#[cfg(feature = "pool")]
pub(crate) fn encode_call<C: Declares<F>, F>(
    arguments: <C::Codecs as Arguments>::Borrowed<'_>,
    max: usize,
) -> SharedCall {
    let function = const { &C::FUNCTION };
    SharedCall::new(function, max, |sink| C::CODECS.encode(arguments, sink))
}

/// Makes the call of one worker from the message of [`encode_call`].
#[cfg(feature = "pool")]
pub(crate) fn call_encoded<C: Declares<F>, F>(
    client: &Client,
    message: &SharedCall,
) -> Call<C::Output, C::Error> {
    message.call(client, C::ANSWER)
}
