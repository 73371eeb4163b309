//! Process functions of a library, two of which have the same name.

/// Distances in a plane.
pub mod plane {
    /// Returns the distance of a point from the origin.
    #[rpc_parallel::process]
    #[must_use]
    pub fn distance(point: (u32, u32)) -> u32 {
        (point.0 * point.0 + point.1 * point.1).isqrt()
    }
}

/// Distances on a line.
pub mod line {
    /// Returns the distance of a point from the origin.
    #[rpc_parallel::process]
    #[must_use]
    pub fn distance(point: i32) -> u32 {
        point.unsigned_abs()
    }
}
