//! A worker that programs of other crates start, and do not otherwise name.

use rpc_parallel::prelude::*;

/// Measures.
#[rpc_parallel::worker]
pub trait Measures {
    /// Returns the distance to a point.
    async fn distance_to(&self, point: &[u32]) -> u32;
}

/// Is elsewhere.
#[derive(Debug, Default, WorkerState)]
pub struct Distant;

#[rpc_parallel::worker]
impl Measures for Distant {
    async fn distance_to(&self, point: &[u32]) -> u32 {
        point.iter().map(|it| it * it).sum::<u32>().isqrt()
    }
}
