//! The source of a map: any iterator or stream, also of results.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::connection::AnyError;
use crate::worker::BoxError;

/// A source of items for a map: an iterator or a stream of `T`, or of `Result<T, E>`.
///
/// It is implemented for all types that implement [`IntoIterator`] or [`Stream`] with such items.
/// `Marker` tells the four cases apart; the compiler infers it. The first error of a source ends the
/// map, after the results of the items before it.
///
/// [`Stream`]: https://docs.rs/futures-core/latest/futures_core/stream/trait.Stream.html
///
/// ```
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # fn example(lines: Vec<String>) {
/// let numbers = square::map(1..=100);
/// let parsed = square::map(lines.into_iter().map(|line| line.parse::<u64>()));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of items of type `{T}`",
    label = "not a source of `{T}`",
    note = "a source is an iterator or a stream of `{T}`, or of `Result<{T}, _>`, that is `Send` and \
            borrows nothing; write `.into_iter()` or `.to_vec()` instead of `.iter()`"
)]
pub trait IntoItems<T, Marker> {
    /// The items, which the map pulls one after the other.
    #[doc(hidden)]
    type Items: Items<T>;

    #[doc(hidden)]
    fn into_items(self) -> Self::Items;
}

/// The items of a source.
#[doc(hidden)]
pub trait Items<T>: Send + 'static {
    /// Returns the next item, `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, AnyError>>>;

    /// Returns bounds on the number of items that are left, like [`Iterator::size_hint`].
    fn size_hint(&self) -> (usize, Option<usize>);
}

/// Marks iterators.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfIterator;

/// Marks iterators of results.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfTryIterator<E>(PhantomData<E>);

/// Marks streams.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfStream;

/// Marks streams of results.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfTryStream<E>(PhantomData<E>);

/// The items of an iterator.
#[doc(hidden)]
#[derive(Debug)]
pub struct IteratorItems<I>(I);

/// The items of an iterator of results.
#[doc(hidden)]
#[derive(Debug)]
pub struct TryIteratorItems<I>(I);

/// The items of a stream.
#[doc(hidden)]
#[derive(Debug)]
pub struct StreamItems<S>(Pin<Box<S>>);

/// The items of a stream of results.
#[doc(hidden)]
#[derive(Debug)]
pub struct TryStreamItems<S>(Pin<Box<S>>);

impl<T, I> IntoItems<T, OfIterator> for I
where
    I: IntoIterator<Item = T, IntoIter: Send + 'static>,
{
    type Items = IteratorItems<I::IntoIter>;

    fn into_items(self) -> Self::Items {
        IteratorItems(self.into_iter())
    }
}

impl<T, E, I> IntoItems<T, OfTryIterator<E>> for I
where
    I: IntoIterator<Item = Result<T, E>, IntoIter: Send + 'static>,
    E: Into<BoxError>,
{
    type Items = TryIteratorItems<I::IntoIter>;

    fn into_items(self) -> Self::Items {
        TryIteratorItems(self.into_iter())
    }
}

impl<T, S: Stream<Item = T> + Send + 'static> IntoItems<T, OfStream> for S {
    type Items = StreamItems<S>;

    fn into_items(self) -> Self::Items {
        StreamItems(Box::pin(self))
    }
}

impl<T, E, S> IntoItems<T, OfTryStream<E>> for S
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<BoxError>,
{
    type Items = TryStreamItems<S>;

    fn into_items(self) -> Self::Items {
        TryStreamItems(Box::pin(self))
    }
}

impl<I: Iterator + Send + 'static> Items<I::Item> for IteratorItems<I> {
    #[inline]
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<I::Item, AnyError>>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T, E, I> Items<T> for TryIteratorItems<I>
where
    I: Iterator<Item = Result<T, E>> + Send + 'static,
    E: Into<BoxError>,
{
    #[inline]
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<T, AnyError>>> {
        Poll::Ready(self.0.next().map(|it| it.map_err(AnyError::from)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<S: Stream + Send + 'static> Items<S::Item> for StreamItems<S> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<S::Item, AnyError>>> {
        self.0.as_mut().poll_next(cx).map(|it| it.map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T, E, S> Items<T> for TryStreamItems<S>
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, AnyError>>> {
        let next = ready!(self.0.as_mut().poll_next(cx));
        Poll::Ready(next.map(|it| it.map_err(AnyError::from)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}
