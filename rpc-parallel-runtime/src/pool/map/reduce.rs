//! Reductions: the workers map the items, and combine the results.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;

use super::error::{MapError, MapErrorKind};
use super::function::{Combine, FunctionErrorOf, Input, Output as Value};
use super::monitor::Monitor;
use super::pieces::Pieces;
use super::pull::{Limits, Pull, Pulled, Then, TypedPull};
use super::setup::{MapOptions, Setup, Target};
use super::source::IntoItems;
use super::values::{error_of, error_without_function};
use crate::connection::AnyError;
use crate::pool::engine::Output as Piece;
use crate::wire::{Body, FunctionInfo, ItemReader};
use crate::worker::Declares;

/// A reduction: a future of the combined results of a function on many items.
///
/// The workers run the function on each item, and combine the results of neighbouring items with a
/// second function, so that few values travel. The output is `None` if there are no items.
///
/// The order of the items is kept: the second function must be associative, and need not be
/// commutative. A commutative reduction
/// ([`map_reduce_commutative`](crate::pool::Pool::map_reduce_commutative)) combines results in the
/// order in which they arrive.
///
/// # Errors
///
/// The first [`MapError`] ends the reduction.
///
/// # Cancel safety
///
/// Dropping the future cancels the reduction, as dropping a [`Map`](super::Map) does.
#[must_use = "a reduction does nothing unless it is awaited"]
pub struct MapReduce<C, F> {
    setup: Box<Setup>,
    combine: FunctionInfo,
    of: PhantomData<fn() -> (C, F)>,
}

/// The number of values that this process keeps before the workers combine them.
const MOST_VALUES: usize = 256;

impl<C: Declares<F>, F: 'static> MapReduce<C, F> {
    pub(super) fn new<P, G, M>(
        target: Target,
        items: impl IntoItems<Input<C, F>, M>,
        is_ordered: bool,
    ) -> Self
    where
        G: Combine<P, Value<C, F>>,
    {
        let combine = <G::Client as Declares<G::Name>>::FUNCTION;
        let source = Box::new(TypedPull::<C, F, _>::new(items.into_items()));
        let mut setup = Box::new(Setup::new(target, C::FUNCTION.id(), source, is_ordered));
        setup.combine = Some(combine.id());
        Self { setup, combine, of: PhantomData }
    }

    /// Sets how often an item runs whose worker dies, see [`Map::attempts`](super::Map::attempts).
    /// Default: 3.
    pub fn attempts(mut self, attempts: u8) -> Self {
        self.setup.options.attempts = attempts.max(1);
        self
    }

    /// Sets a timeout for each item, see [`Map::timeout`](super::Map::timeout). Default: none.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.setup.options.timeout = Some(after);
        self
    }

    /// Sets how many items may be pulled from the source before their results are combined, see
    /// [`Map::window`](super::Map::window).
    pub fn window(mut self, items: usize) -> Self {
        self.setup.options.window = Some(items.max(1));
        self
    }

    /// Returns a handle that tells the progress of the items, see
    /// [`Map::monitor`](super::Map::monitor).
    pub fn monitor(&mut self) -> Monitor {
        self.setup.reporter.monitor()
    }

    async fn run(self) -> Result<Option<Value<C, F>>, MapError<FunctionErrorOf<C, F>>> {
        let (target, options) = (self.setup.target.clone(), self.setup.options);
        let combination = Combination { target, options, function: self.combine };
        let mut pieces = Pieces::new(*self.setup);
        let mut values = VecDeque::new();
        while let Some(piece) = poll_fn(|cx| pieces.poll_next(cx)).await {
            match piece {
                Ok(Piece::Values { bytes, .. }) => values.push_back(bytes),
                Ok(piece) => return Err(error_of::<C, F>(piece, pieces.timeout())),
                Err(end) => return Err(MapError::of_map(C::FUNCTION.name(), end)),
            }
            if values.len() >= MOST_VALUES {
                combination.reduce(&mut values).await?;
            }
        }
        combination.reduce(&mut values).await?;
        let Some(value) = values.pop_front() else { return Ok(None) };
        let decoded = (C::ANSWER.value.decode_item)(&mut ItemReader::new(Body::shared(&value)));
        decoded.map(Some).map_err(|error| {
            let why = AnyError::from(error).to_string();
            MapError::of_combination(self.combine.name(), MapErrorKind::Message { why })
        })
    }
}

impl<C, F> IntoFuture for MapReduce<C, F>
where
    C: Declares<F, Output: Send, Error: Send>,
    FunctionErrorOf<C, F>: Send,
    F: 'static,
{
    type Output = Result<Option<Value<C, F>>, MapError<FunctionErrorOf<C, F>>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Combines encoded values in the workers.
struct Combination {
    target: Target,
    options: MapOptions,
    function: FunctionInfo,
}

impl Combination {
    /// Combines neighbours until one value is left.
    async fn reduce<E>(&self, values: &mut VecDeque<Bytes>) -> Result<(), MapError<E>> {
        while values.len() > 1 {
            // The last of an odd number has no neighbour.
            let last = if values.len() % 2 == 1 { values.pop_back() } else { None };
            let (target, source) = (self.target.clone(), Box::new(Pairs(std::mem::take(values))));
            let mut setup = Setup::new(target, self.function.id(), source, true);
            setup.options = self.options;
            // So the worker combines the results of a batch of pairs, too, and each piece is one
            // value.
            setup.combine = Some(self.function.id());
            let mut pieces = Pieces::new(setup);
            let name = self.function.name();
            while let Some(piece) = poll_fn(|cx| pieces.poll_next(cx)).await {
                match piece {
                    Ok(Piece::Values { bytes, .. }) => values.push_back(bytes),
                    Ok(piece) => {
                        let kind = error_without_function(piece, pieces.timeout());
                        return Err(MapError::of_combination(name, kind));
                    }
                    Err(end) => return Err(MapError::of_map(name, end)),
                }
            }
            values.extend(last);
        }
        Ok(())
    }
}

/// The encoded arguments of the combining function: pairs of values.
struct Pairs(VecDeque<Bytes>);

impl Pull for Pairs {
    fn pull(&mut self, limits: Limits, message: &mut Vec<u8>, _: &mut Context<'_>) -> Pulled {
        let mut count = 0;
        while count < limits.items && message.len() < limits.bytes {
            let (Some(first), Some(second)) = (self.0.pop_front(), self.0.pop_front()) else {
                return Pulled { count, then: Then::End(Ok(())) };
            };
            message.extend_from_slice(&first);
            message.extend_from_slice(&second);
            count += 1;
        }
        Pulled { count, then: Then::More }
    }

    fn remaining(&self) -> (u64, bool) {
        (self.0.len() as u64 / 2, true)
    }
}
