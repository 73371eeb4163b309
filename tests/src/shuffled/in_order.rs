//! The workers of `out_of_order.rs`, declared in another order.

use rpc_parallel::prelude::*;

/// Declared first in `in_order.rs`.
#[rpc_parallel::worker]
pub trait First {
    /// Declared first in `in_order.rs`.
    async fn one(&self, number: u32) -> u32;
    /// Declared second in `in_order.rs`.
    async fn two(&self, text: &str, number: u64) -> String;
    /// Declared third in `in_order.rs`.
    fn three(&self);
}

/// Declared second in `in_order.rs`.
#[rpc_parallel::worker]
pub trait Second {
    /// Declared first in `in_order.rs`.
    fn one(&self, number: u32) -> u32;
    /// Declared second in `in_order.rs`.
    fn four(&self) -> Result<(), AnyError>;
}

/// Declared first in `in_order.rs`.
#[derive(Debug, Default, WorkerState)]
pub struct Alpha;

/// Declared second in `in_order.rs`.
#[derive(Debug, Default, WorkerState)]
pub struct Beta;

/// Declared third in `in_order.rs`.
#[derive(Debug, Default, WorkerState)]
pub struct Gamma;

#[rpc_parallel::worker]
impl First for Alpha {
    async fn one(&self, number: u32) -> u32 {
        number
    }

    async fn two(&self, text: &str, _: u64) -> String {
        text.to_owned()
    }

    fn three(&self) {}
}

#[rpc_parallel::worker]
impl First for Beta {
    async fn one(&self, number: u32) -> u32 {
        number + 1
    }

    async fn two(&self, text: &str, _: u64) -> String {
        text.to_uppercase()
    }

    fn three(&self) {}
}

#[rpc_parallel::worker]
impl Second for Gamma {
    fn one(&self, number: u32) -> u32 {
        number
    }

    fn four(&self) -> Result<(), AnyError> {
        Ok(())
    }
}
