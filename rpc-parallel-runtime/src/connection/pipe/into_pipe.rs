//! The conversion of an argument into a pipe.

use futures_core::Stream;

use super::reader::Pipe;

/// An argument for a function that takes a `Pipe<T>`: any stream of `T`
/// (`futures::Stream<Item = T> + Send + 'static`), or a [`Pipe<T>`].
///
/// [`Pipe::from_items`] makes a pipe of an iterator, and [`Pipe::pair`] makes a pipe together with
/// a writer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed as a `Pipe<{T}>`",
    label = "must be a `Stream<Item = {T}>` that is `Send` and `'static`, or a `Pipe<{T}>`",
    note = "`Pipe::from_items` makes a pipe from an iterator; a pipe of another function is passed \
            as it is"
)]
pub trait IntoPipe<T> {
    /// Converts the argument into a pipe.
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
