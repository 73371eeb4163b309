//! The maps of process functions, on the pool of the program. They are the bodies of the functions
//! that `#[process]` generates.

use super::error::MapError;
use super::find::{count, find};
use super::function::{Combine, FunctionErrorOf, Input, Output as Value};
use super::reduce::MapReduce;
use super::setup::Target;
use super::source::IntoItems;
use super::stream::{Map, MapOrder, Unordered};
use crate::worker::{Declares, ProcessClient};

/// The item type of a process function.
#[doc(hidden)]
pub type ProcessInput<F> = Input<ProcessClient, F>;

/// The type of the results of a process function.
#[doc(hidden)]
pub type ProcessOutput<F> = Value<ProcessClient, F>;

/// The error of a map of a process function.
#[doc(hidden)]
pub type ProcessMapError<F> = MapError<FunctionErrorOf<ProcessClient, F>>;

#[doc(hidden)]
pub fn map<F, Order, M>(items: impl IntoItems<ProcessInput<F>, M>) -> Map<ProcessClient, F, Order>
where
    F: 'static,
    Order: MapOrder,
    ProcessClient: Declares<F>,
{
    Map::new(Target::Program, items)
}

#[doc(hidden)]
pub async fn find_map<F, T, M>(
    items: impl IntoItems<ProcessInput<F>, M>,
) -> Result<Option<T>, ProcessMapError<F>>
where
    F: 'static,
    ProcessClient: Declares<F, Output = Option<T>>,
{
    find(map::<F, Unordered, M>(items)).await
}

#[doc(hidden)]
pub async fn for_each<F, M>(
    items: impl IntoItems<ProcessInput<F>, M>,
) -> Result<u64, ProcessMapError<F>>
where
    F: 'static,
    ProcessClient: Declares<F>,
{
    count(map::<F, Unordered, M>(items)).await
}

#[doc(hidden)]
pub fn map_reduce<F, G, M>(
    _: G,
    items: impl IntoItems<ProcessInput<F>, M>,
    is_ordered: bool,
) -> MapReduce<ProcessClient, F>
where
    F: 'static,
    G: Combine<ProcessClient, ProcessOutput<F>>,
    ProcessClient: Declares<F>,
{
    MapReduce::new::<ProcessClient, G, M>(Target::Program, items, is_ordered)
}
