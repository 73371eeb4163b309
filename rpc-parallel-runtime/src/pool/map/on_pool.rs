//! The maps of a pool.

use super::error::MapError;
use super::find::{count, find};
use super::function::{Combine, FunctionErrorOf, Input, MapFunction, Output as Value};
use super::reduce::MapReduce;
use super::setup::Target;
use super::source::IntoItems;
use super::stream::{Map, Unordered};
use crate::pool::Pool;
use crate::worker::{Declares, OneWorkerTraitPerType, Served};

type Client<S> = <S as OneWorkerTraitPerType>::Client;
type ClientOf<S, F> = <F as MapFunction<Client<S>>>::Client;
type NameOf<S, F> = <F as MapFunction<Client<S>>>::Name;
type InputOf<S, F> = Input<ClientOf<S, F>, NameOf<S, F>>;
type OutputOf<S, F> = Value<ClientOf<S, F>, NameOf<S, F>>;
type ErrorOf<S, F> = MapError<FunctionErrorOf<ClientOf<S, F>, NameOf<S, F>>>;

impl<S: Served> Pool<S> {
    fn target(&self) -> Target {
        Target::Pool(self.lease().clone())
    }

    /// Runs a function on all items, by all workers. Returns a stream of the results, in the order
    /// of the items.
    ///
    /// `items` is an iterator or a stream, also of `Result`s, see [`IntoItems`]. If the function has
    /// several arguments, an item is the tuple of them.
    ///
    /// ```
    /// # use rpc_parallel::prelude::*;
    /// # #[rpc_parallel::worker]
    /// # pub trait Render { fn render(&self, page: u32) -> Vec<u8>; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Renderer;
    /// # #[rpc_parallel::worker]
    /// # impl Render for Renderer { fn render(&self, _: u32) -> Vec<u8> { Vec::new() } }
    /// # async fn example() -> Result<(), AnyError> {
    /// let pool = Renderer::pool().spawn(()).await?;
    /// let images: Vec<Vec<u8>> = pool.map(RenderClient::RENDER, 0..100).collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<F, M>(
        &self,
        _: F,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> Map<ClientOf<S, F>, NameOf<S, F>>
    where
        F: MapFunction<Client<S>>,
    {
        Map::new(self.target(), items)
    }

    /// Runs a function on all items, by all workers. Returns a stream of the indexes of the items
    /// and their results, in the order in which the workers finish.
    pub fn map_unordered<F, M>(
        &self,
        _: F,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> Map<ClientOf<S, F>, NameOf<S, F>, Unordered>
    where
        F: MapFunction<Client<S>>,
    {
        Map::new(self.target(), items)
    }

    /// Returns the first `Some` that the function returns, and cancels what else runs. Returns
    /// `None` if it returns `None` for all items.
    ///
    /// If several items have a value, any of them is returned.
    ///
    /// # Errors
    ///
    /// The search goes on after an error. If no item has a value, the first error is returned.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the search.
    pub async fn find_map<F, T, M>(
        &self,
        function: F,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> Result<Option<T>, ErrorOf<S, F>>
    where
        F: MapFunction<Client<S>, Client: Declares<F::Name, Output = Option<T>>>,
    {
        find(self.map_unordered(function, items)).await
    }

    /// Runs a function on all items for its side effects. Returns the number of items.
    ///
    /// An item runs again if its worker dies, see [`Map::attempts`].
    ///
    /// # Errors
    ///
    /// The first error cancels the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the items that have not begun.
    pub async fn for_each<F, M>(
        &self,
        function: F,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> Result<u64, ErrorOf<S, F>>
    where
        F: MapFunction<Client<S>>,
    {
        count(self.map_unordered(function, items)).await
    }

    /// Runs a function on all items, and combines the results with a second function. Both run in
    /// the workers. The order of the items is kept.
    ///
    /// `combine` has two arguments, which are results of `map` or of `combine`, and returns such a
    /// result. It must be associative.
    ///
    /// ```
    /// # use rpc_parallel::prelude::*;
    /// # use std::path::PathBuf;
    /// #[rpc_parallel::process]
    /// fn count_lines(path: PathBuf) -> u64 {
    ///     std::fs::read_to_string(path).map_or(0, |text| text.lines().count() as u64)
    /// }
    ///
    /// #[rpc_parallel::process]
    /// fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// # async fn example(files: Vec<PathBuf>) -> Result<(), AnyError> {
    /// let lines = count_lines::map_reduce(add::FUNCTION, files).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_reduce<F, G, M>(
        &self,
        _: F,
        _: G,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> MapReduce<ClientOf<S, F>, NameOf<S, F>>
    where
        F: MapFunction<Client<S>>,
        G: Combine<Client<S>, OutputOf<S, F>>,
    {
        MapReduce::new::<Client<S>, G, M>(self.target(), items, true)
    }

    /// Like [`map_reduce`](Self::map_reduce), but combines results in the order in which they
    /// arrive, so that no result waits for another one. `combine` must be associative and
    /// commutative.
    pub fn map_reduce_commutative<F, G, M>(
        &self,
        _: F,
        _: G,
        items: impl IntoItems<InputOf<S, F>, M>,
    ) -> MapReduce<ClientOf<S, F>, NameOf<S, F>>
    where
        F: MapFunction<Client<S>>,
        G: Combine<Client<S>, OutputOf<S, F>>,
    {
        MapReduce::new::<Client<S>, G, M>(self.target(), items, false)
    }
}
