//! The unsafe code of rpc-parallel, behind safe types.
//!
//! This is an internal crate of [rpc-parallel](https://docs.rs/rpc-parallel) without a stable
//! interface. It contains every `unsafe` block of the project; all other crates forbid unsafe code.
//! Each block states the invariant that it relies on and who upholds it.

mod readiness;

mod cpu;
mod own_image;

mod threads;
mod environment;
mod joined_thread;

mod signals;
mod fresh_child;
mod open_descriptors;
mod queues;
mod descriptors;
mod output;
mod sibling;
mod fork;
mod exit;
mod termination;
mod pidfd;

mod plain;
mod sealed;

pub use self::readiness::{Direction, Readiness};

pub use self::cpu::current_cpu;
pub use self::own_image::program_headers_address;

pub use self::environment::{EnvironmentError, remove_variable, replace_variables, set_variable};
pub use self::joined_thread::{JoinedThreadError, run_on_joined_thread};
pub use self::threads::{
    NotSingleThreaded, Thread, check_single_threaded, wait_until_single_threaded,
};

pub use self::descriptors::Released;
pub use self::exit::exit_immediately;
pub use self::fork::{ForkError, Forked, NewProcess, Parent, check_forkable, fork, fork_sibling};
pub use self::fresh_child::FreshChild;
pub use self::output::flush_output;
pub use self::pidfd::{PidfdCause, PidfdError};
pub use self::queues::Queue;
pub use self::sibling::NoSibling;
pub use self::signals::SignalActions;
pub use self::termination::Termination;

pub use self::plain::Plain;
pub use self::sealed::{SealedSlice, SealedSliceBuilder};
