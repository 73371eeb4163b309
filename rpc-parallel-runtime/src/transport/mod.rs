//! Bytes from one process to another: sockets, and what can be said of their peers.
//!
//! The layers above see two halves, [`Reader`] and [`Writer`], and not what is behind them.

mod origin;
mod fault;
mod halves;
mod unix;
mod descriptors;
mod listener;

pub(crate) use self::descriptors::{receive, send, send_once};
pub(crate) use self::fault::{Backoff, Fault};
#[cfg(any(test, fuzzing))]
pub(crate) use self::halves::memory;
pub(crate) use self::halves::{Halves, Reader, Writer};
pub(crate) use self::listener::{Address, kept_by};
pub(crate) use self::origin::{Origin, Registered};
pub(crate) use self::unix::{accept, adopt, connect, connected_pair, listen, split};
