//! What a caller may pass where a function takes a pipe.

use futures_core::Stream;

use super::reader::Pipe;

/// What can be passed to a client's function where the worker's takes a `Pipe<T>`: any stream of
/// `T` (`futures::Stream<Item = T> + Send + 'static`), and a [`Pipe<T>`] itself.
///
/// What is no stream is made one: of an iterator by [`Pipe::from_items`], of single elements by
/// [`Pipe::pair`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed as a `Pipe<{T}>`",
    label = "must be a `Stream<Item = {T}>` that is `Send` and `'static`, or a `Pipe<{T}>`",
    note = "`Pipe::from_items` makes a pipe from an iterator"
)]
pub trait IntoPipe<T> {
    /// Makes a pipe of it.
    fn into_pipe(self) -> Pipe<T>;
}

#[diagnostic::do_not_recommend]
impl<T: Send + 'static, S: Stream<Item = T> + Send + 'static> IntoPipe<T> for S {
    fn into_pipe(self) -> Pipe<T> {
        Pipe::from_stream(self)
    }
}

impl<T: Send + 'static> IntoPipe<T> for Pipe<T> {
    fn into_pipe(self) -> Self {
        self
    }
}
