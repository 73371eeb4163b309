//! The workers of `in_order.rs`, declared in another order.

use rpc_parallel::prelude::*;

/// Declared third in `in_order.rs`.
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

/// Declared second in `in_order.rs`.
#[rpc_parallel::worker]
pub trait Second {
    /// Declared second in `in_order.rs`.
    fn four(&self) -> Result<(), AnyError>;
    /// Declared first in `in_order.rs`.
    fn one(&self, other_name: u32) -> u32;
}

/// Declared second in `in_order.rs`.
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

/// Declared first in `in_order.rs`.
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

/// Declared first in `in_order.rs`.
#[rpc_parallel::worker]
pub trait First {
    /// Declared third in `in_order.rs`.
    fn three(&self);
    /// Declared second in `in_order.rs`.
    async fn two(&self, other_name: &str, number: u64) -> String;
    /// Declared first in `in_order.rs`.
    async fn one(&self, number: u32) -> u32;
}
