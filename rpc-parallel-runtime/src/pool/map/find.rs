//! Searches: the first item for which a function returns a value.

use super::error::MapError;
use super::function::FunctionErrorOf;
use super::stream::{Map, Unordered};
use crate::worker::Declares;

/// Returns the first value that the function finds, and cancels the rest of the map.
pub(super) async fn find<C, F, T>(
    mut map: Map<C, F, Unordered>,
) -> Result<Option<T>, MapError<FunctionErrorOf<C, F>>>
where
    C: Declares<F, Output = Option<T>>,
    F: 'static,
{
    let mut first_error = None;
    while let Some(element) = map.next().await {
        match element {
            Ok((_, Some(found))) => return Ok(Some(found)),
            Ok((_, None)) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Waits for the results of all items, and returns their number.
pub(super) async fn count<C, F>(
    map: Map<C, F, Unordered>,
) -> Result<u64, MapError<FunctionErrorOf<C, F>>>
where
    C: Declares<F>,
    F: 'static,
{
    map.fold(0, |count, _| count + 1).await
}
