//! A worker type that programs of other crates only start.

use rpc_parallel::prelude::*;

/// Measures distances.
#[rpc_parallel::worker]
pub trait Measures {
    /// Returns the distance of a point from the origin.
    async fn distance_to(&self, point: &[u32]) -> u32;
}

/// Measures distances in another process.
#[derive(Debug, Default, WorkerState)]
pub struct Measure;

#[rpc_parallel::worker]
impl Measures for Measure {
    async fn distance_to(&self, point: &[u32]) -> u32 {
        point.iter().map(|it| it * it).sum::<u32>().isqrt()
    }
}
