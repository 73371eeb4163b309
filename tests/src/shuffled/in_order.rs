//! Workers that are declared in two orders: in this one, and in that of `out_of_order.rs`.

use rpc_parallel::prelude::*;

/// Comes first.
#[rpc_parallel::worker]
pub trait First {
    /// Comes first.
    async fn one(&self, number: u32) -> u32;
    /// Comes second.
    async fn two(&self, text: &str, number: u64) -> String;
    /// Comes third.
    fn three(&self);
}

/// Comes second.
#[rpc_parallel::worker]
pub trait Second {
    /// Comes first.
    fn one(&self, number: u32) -> u32;
    /// Comes second.
    fn four(&self) -> Result<(), AnyError>;
}

/// Comes first.
#[derive(Debug, Default, WorkerState)]
pub struct Alpha;

/// Comes second.
#[derive(Debug, Default, WorkerState)]
pub struct Beta;

/// Comes third.
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
