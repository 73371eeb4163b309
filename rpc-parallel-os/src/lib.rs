//! The unsafe code of rpc-parallel, behind safe types.
//!
//! This is an internal crate of [rpc-parallel](https://docs.rs/rpc-parallel) without a stable
//! interface. It contains every `unsafe` block of the project; all other crates forbid unsafe code.
//! Each block states the invariant that it relies on and who upholds it.

mod readiness;

pub use self::readiness::{Direction, Readiness};
