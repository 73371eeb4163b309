//! The results of a map as a stream, and the options of a map.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::iter::Sum;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::error::MapError;
use super::function::{FunctionErrorOf, Input, Output as Value};
use super::monitor::Monitor;
use super::pull::TypedPull;
use super::setup::{Setup, Target};
use super::source::IntoItems;
use super::values::{Item, Values};
use crate::worker::Declares;

/// The results of a function on many items: a stream, in the order of the items.
///
/// Nothing runs before the first poll. Until then, the options can be set. The workers run ahead of
/// the consumer, up to the [window](Self::window).
///
/// Each element is the result of one item, or the [`MapError`] of that item; the map goes on after
/// an error of an item. [`collect`](Self::collect) and [`fold`](Self::fold) stop at the first error.
/// Each item has exactly one result, also if workers die: the items of a dead worker that have no
/// result yet run again, see [`attempts`](Self::attempts).
///
/// `Order` says what an element holds: the result, in the order of the items
/// ([`Ordered`]), or the index of the item and the result, as soon as it is known ([`Unordered`]).
///
/// # Panics
///
/// The first poll panics outside of a tokio runtime.
///
/// # Cancel safety
///
/// Dropping the stream cancels the map. Items that have not begun never begin, `async` functions are
/// dropped at their next await point. A worker that still computes an item after 0.5 s is killed,
/// and its pool replaces it. Dropping the future of [`next`](Self::next) loses nothing.
///
/// ```
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # async fn example() -> Result<(), rpc_parallel::pool::MapError> {
/// let squares: Vec<u64> = square::map(1..=100).collect().await?;
///
/// let mut results = square::map(1..).window(1000); // an endless source
/// while let Some(result) = results.next().await {
///     if result? > 1_000_000 {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a map does nothing unless its results are read"]
pub struct Map<C: Declares<F>, F, Order: MapOrder = Ordered> {
    values: Values<C, F>,
    /// Elements of the piece that was decoded last.
    decoded: VecDeque<Element<C, F, Order>>,
    order: PhantomData<Order>,
}

/// The elements of a [`Map`] are results, in the order of the items.
#[derive(Clone, Copy, Debug)]
pub struct Ordered;

/// The elements of a [`Map`] are the indexes of items and their results, in the order in which the
/// workers finish.
#[derive(Clone, Copy, Debug)]
pub struct Unordered;

/// What an element of a [`Map`] holds: [`Ordered`] or [`Unordered`].
pub trait MapOrder: Send + 'static {
    /// The element for a result of type `T`.
    type Element<T>;

    #[doc(hidden)]
    const IS_ORDERED: bool;

    #[doc(hidden)]
    fn element<T>(index: u64, value: T) -> Self::Element<T>;
}

impl MapOrder for Ordered {
    type Element<T> = T;

    const IS_ORDERED: bool = true;

    fn element<T>(_: u64, value: T) -> T {
        value
    }
}

impl MapOrder for Unordered {
    type Element<T> = (u64, T);

    const IS_ORDERED: bool = false;

    fn element<T>(index: u64, value: T) -> (u64, T) {
        (index, value)
    }
}

type Element<C, F, Order> =
    Result<<Order as MapOrder>::Element<Value<C, F>>, MapError<FunctionErrorOf<C, F>>>;

impl<C: Declares<F>, F: 'static, Order: MapOrder> Map<C, F, Order> {
    pub(super) fn new<M>(target: Target, items: impl IntoItems<Input<C, F>, M>) -> Self {
        let source = Box::new(TypedPull::<C, F, _>::new(items.into_items()));
        let setup = Setup::new(target, C::FUNCTION.id(), source, Order::IS_ORDERED);
        Self { values: Values::new(setup), decoded: VecDeque::new(), order: PhantomData }
    }

    /// Sets how many items of an `async` function a worker runs at once. Default: 1.
    ///
    /// A worker runs the items of a function that is not `async` one after the other.
    pub fn concurrency(mut self, items: u32) -> Self {
        self.values.setup().options.concurrency = items.max(1);
        self
    }

    /// Sets how often an item runs whose worker dies. Default: 3.
    ///
    /// When a worker dies, its items without a result run again, on other workers. The item that was
    /// running runs alone the next time. When that many workers have died of an item, its result is
    /// [`MapErrorKind::WorkerDied`](super::MapErrorKind::WorkerDied).
    ///
    /// With 1, an item that has begun never runs a second time. Use this for functions with side
    /// effects. Workers then report each item before it begins, which takes a few microseconds.
    pub fn attempts(mut self, attempts: u8) -> Self {
        self.values.setup().options.attempts = attempts.max(1);
        self
    }

    /// Sets a timeout for each item. Default: none.
    ///
    /// The worker of an item that exceeds it is killed, and its pool replaces it. The result of the
    /// item is [`MapErrorKind::TimedOut`](super::MapErrorKind::TimedOut); it does not run again. The
    /// other items of the worker run again, and do not count the death as an
    /// [attempt](Self::attempts).
    ///
    /// A worker notices that an item exceeds the timeout also while the item computes or is stuck in
    /// the kernel. If the whole process is stopped, this process notices that it sends nothing. It
    /// does not know the item then, so the items run once more, and the error comes when the timeout
    /// has passed a second time.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.values.setup().options.timeout = Some(after);
        self
    }

    /// Sets how many items may be pulled from the source before their results are consumed.
    /// Default: as many as keep the workers busy.
    ///
    /// The window bounds the memory of the map. A small window can leave workers without work.
    pub fn window(mut self, items: usize) -> Self {
        self.values.setup().options.window = Some(items.max(1));
        self
    }

    /// Sets whether the last items run on a second worker, if they take much longer than others.
    /// Default: no.
    ///
    /// When 75 % of the items are done, an item that has taken 1.5 times the median is also given to
    /// an idle worker. The first result counts. Use this where workers differ in speed, and only for
    /// functions without side effects.
    pub fn speculate(mut self, speculate: bool) -> Self {
        self.values.setup().options.speculate = speculate;
        self
    }

    /// Returns a handle that tells the progress of the map, and what it says of itself when it has
    /// finished.
    pub fn monitor(&mut self) -> Monitor {
        self.values.setup().reporter.monitor()
    }

    /// Draws a progress bar on stderr while the map runs, if stderr is a terminal. Default: none.
    #[cfg(feature = "progress")]
    pub fn progress_bar(mut self) -> Self {
        self.values.setup().bar = Some(C::FUNCTION.name());
        self
    }

    /// Returns the next element, or `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future loses no element.
    pub async fn next(&mut self) -> Option<Element<C, F, Order>> {
        poll_fn(|cx| self.poll_element(cx)).await
    }

    /// Collects all results.
    ///
    /// # Errors
    ///
    /// Returns the first error, and cancels the map. [`next`](Self::next) also returns the results
    /// after an error.
    pub async fn collect<T>(self) -> Result<T, MapError<FunctionErrorOf<C, F>>>
    where
        T: Default + Extend<Order::Element<Value<C, F>>>,
    {
        let mut all = T::default();
        self.try_for_each(|element| all.extend([element])).await?;
        Ok(all)
    }

    /// Adds all results.
    ///
    /// # Errors
    ///
    /// Returns the first error, and cancels the map.
    pub async fn sum<T>(self) -> Result<T, MapError<FunctionErrorOf<C, F>>>
    where
        T: Sum<Order::Element<Value<C, F>>> + Sum<T>,
    {
        let zero = std::iter::empty::<T>().sum();
        self.fold(zero, |sum, element| [sum, [element].into_iter().sum()].into_iter().sum()).await
    }

    /// Folds all results into one value, in this process.
    ///
    /// # Errors
    ///
    /// Returns the first error, and cancels the map.
    pub async fn fold<T>(
        self,
        init: T,
        mut fold: impl FnMut(T, Order::Element<Value<C, F>>) -> T,
    ) -> Result<T, MapError<FunctionErrorOf<C, F>>> {
        // `None` while `fold` runs.
        let mut folded = Some(init);
        self.try_for_each(|element| folded = folded.take().map(|it| fold(it, element))).await?;
        Ok(folded.expect("`fold` has returned"))
    }

    /// Calls a function with each result, until the first error.
    async fn try_for_each(
        mut self,
        mut each: impl FnMut(Order::Element<Value<C, F>>),
    ) -> Result<(), MapError<FunctionErrorOf<C, F>>> {
        for element in mem::take(&mut self.decoded) {
            each(element?);
        }
        let mut failed = None;
        poll_fn(|cx| {
            loop {
                let each = |item: Item<C, F>| match item {
                    _ if failed.is_some() => {}
                    Ok((index, value)) => each(Order::element(index, value)),
                    Err(error) => failed = Some(error),
                };
                let more = ready!(self.values.poll_piece(each, cx));
                if failed.is_some() || !more {
                    return Poll::Ready(());
                }
            }
        })
        .await;
        failed.map_or(Ok(()), Err)
    }

    /// Returns an adapter that drops the items with errors, after `report` has seen the errors.
    ///
    /// An error that [ends the map](MapError::ends_map) is reported too.
    pub fn skip_errors<R>(self, report: R) -> SkipErrors<C, F, Order, R>
    where
        R: FnMut(MapError<FunctionErrorOf<C, F>>),
    {
        SkipErrors { map: self, report }
    }

    fn poll_element(&mut self, cx: &mut Context<'_>) -> Poll<Option<Element<C, F, Order>>> {
        loop {
            if let Some(element) = self.decoded.pop_front() {
                return Poll::Ready(Some(element));
            }
            let Self { values, decoded, .. } = self;
            let each = |item: Item<C, F>| {
                decoded.push_back(item.map(|(index, value)| Order::element(index, value)));
            };
            if !ready!(values.poll_piece(each, cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

// No field is pinned.
impl<C: Declares<F>, F, Order: MapOrder> Unpin for Map<C, F, Order> {}

impl<C: Declares<F>, F: 'static, Order: MapOrder> Stream for Map<C, F, Order> {
    type Item = Element<C, F, Order>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Element<C, F, Order>>> {
        self.get_mut().poll_element(cx)
    }
}

impl<C: Declares<F>, F, Order: MapOrder> fmt::Debug for Map<C, F, Order> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("function", &C::FUNCTION.name()).finish_non_exhaustive()
    }
}

/// The results of a [`Map`] without those of items that failed. [`Map::skip_errors`] makes it.
#[must_use = "a map does nothing unless its results are read"]
pub struct SkipErrors<C: Declares<F>, F, Order: MapOrder, R> {
    map: Map<C, F, Order>,
    report: R,
}

impl<C, F, Order, R> SkipErrors<C, F, Order, R>
where
    C: Declares<F>,
    F: 'static,
    Order: MapOrder,
    R: FnMut(MapError<FunctionErrorOf<C, F>>),
{
    /// Returns the next result, or `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future loses no element.
    pub async fn next(&mut self) -> Option<Order::Element<Value<C, F>>> {
        loop {
            match self.map.next().await? {
                Ok(element) => return Some(element),
                Err(error) => (self.report)(error),
            }
        }
    }

    /// Collects all results of items that did not fail.
    pub async fn collect<T>(mut self) -> T
    where
        T: Default + Extend<Order::Element<Value<C, F>>>,
    {
        let mut all = T::default();
        while let Some(element) = self.next().await {
            all.extend([element]);
        }
        all
    }
}

impl<C: Declares<F>, F, Order: MapOrder, R> fmt::Debug for SkipErrors<C, F, Order, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}
