//! Moves bytes and file descriptors between processes, over Unix sockets.
//!
//! The layers above use a transport by its two halves, [`Reader`] and [`Writer`], and do not depend
//! on its kind.

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
pub(crate) use self::listener::{Address, address_owner};
pub(crate) use self::origin::{Origin, Registered};
pub(crate) use self::unix::{accept, adopt, connect, connected_pair, listen, split};
