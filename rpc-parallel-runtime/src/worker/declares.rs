//! What a generated client says of itself and of its functions.

use super::arguments::Arguments;
use super::stats::WorkerStats;
use crate::connection::{
    Answer, Call, CallErrorKind, CallFailure, Client, Pipe, PipeWriter, plain,
};
use crate::wire::{Codec, FunctionInfo, Label, Message, Place, WorkerId, WorkerTrait, codec};

/// A generated client: what all of them can do.
///
/// Clients are cheap to clone; the clones share one connection, which ends when the last clone is
/// dropped, and the last call and the last pipe that was made by it.
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

    /// Returns the name, type and process of the worker at the other end.
    fn label(&self) -> &Label {
        self.client().label()
    }

    /// Closes the connection, after the calls that have been sent.
    ///
    /// Calls that wait for an answer fail, and pipes end with an error, on both sides. A worker that
    /// lives with this connection ends.
    fn close(&self) {
        self.client().close();
    }

    /// Says whether the connection is closed or lost.
    fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Waits until the connection is closed or lost, and says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    fn closed(&self) -> impl Future<Output = CallErrorKind> + Send {
        self.client().closed()
    }

    /// Asks the worker to take no new connections.
    ///
    /// Those that there are go on. The worker's handles lead nowhere from then on; where it was
    /// started by [`start`](crate::Spawner::start), its process ends with the last of them.
    fn close_server(&self) -> Call<()> {
        Call::new(self.client(), CLOSE_SERVER, plain(codec()), |sink| ().encode((), sink))
    }
}

/// Asks the worker's process how it is doing.
pub(crate) fn stats(client: &Client) -> Call<WorkerStats> {
    Call::new(client, STATS, plain(codec()), |sink| ().encode((), sink))
}

/// The functions that every worker has.
pub(super) const CLOSE_SERVER: &FunctionInfo =
    &FunctionInfo::new("close_server", "WorkerClient", HERE, "", "()");
pub(super) const STATS: &FunctionInfo =
    &FunctionInfo::new("stats", "WorkerClient", HERE, "", "WorkerStats");

const HERE: Place = Place {
    package: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    module: module_path!(),
    file: file!(),
    line: line!(),
};

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
