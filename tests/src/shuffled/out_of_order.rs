//! Workers that are declared in two orders: in this one, and in that of `in_order.rs`.

use rpc_parallel::prelude::*;

/// Comes third.
#[derive(Debug, Default, WorkerState)]
pub struct Gamma;

#[rpc_parallel::worker]
impl Second for Gamma {
    fn four(&self) -> Result<(), AnyError> {
        Err(AnyError::new("another body"))
    }

    fn one(&self, other_name: u32) -> u32 {
        other_name
    }
}

/// Comes second.
#[rpc_parallel::worker]
pub trait Second {
    /// Comes second.
    fn four(&self) -> Result<(), AnyError>;
    /// Comes first.
    fn one(&self, other_name: u32) -> u32;
}

/// Comes second.
#[derive(Debug, Default, WorkerState)]
pub struct Beta;

#[rpc_parallel::worker]
impl First for Beta {
    fn three(&self) {}

    async fn two(&self, other_name: &str, _: u64) -> String {
        other_name.to_lowercase()
    }

    async fn one(&self, number: u32) -> u32 {
        number + 2
    }
}

/// Comes first.
#[derive(Debug, Default, WorkerState)]
pub struct Alpha;

#[rpc_parallel::worker]
impl First for Alpha {
    async fn two(&self, text: &str, _: u64) -> String {
        text.to_owned()
    }

    fn three(&self) {}

    async fn one(&self, number: u32) -> u32 {
        number
    }
}

/// Comes first.
#[rpc_parallel::worker]
pub trait First {
    /// Comes third.
    fn three(&self);
    /// Comes second.
    async fn two(&self, other_name: &str, number: u64) -> String;
    /// Comes first.
    async fn one(&self, number: u32) -> u32;
}
