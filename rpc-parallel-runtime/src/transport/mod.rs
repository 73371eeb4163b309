//! Moves bytes and file descriptors between processes, over Unix sockets.
//!
//! The layers above use a transport by its two halves, [`Reader`] and [`Writer`], and do not depend
//! on its kind: a Unix socket, any stream of bytes, or memory. A [`Dial`] opens one.

mod origin;
mod fault;
mod halves;
mod dial;
mod busy_poll;
mod turn;
mod socket;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "no launcher of this version connects workers by such a stream")
)]
mod byte_stream;
pub(crate) mod memory;
mod descriptors;
mod proc_pid;
mod bind_record;
mod listener;
mod multiplexer;
mod unix;
#[cfg(test)]
mod suite;

#[cfg(feature = "pool")]
pub(crate) use self::busy_poll::BusyPolling;
#[cfg(test)]
pub(crate) use self::byte_stream::byte_stream;
pub(crate) use self::descriptors::{receive, receive_some, send, try_send};
pub(crate) use self::dial::{Dial, Dialing};
pub(crate) use self::fault::{Backoff, Fault};
pub(crate) use self::halves::{Halves, Reader, Writer};
pub(crate) use self::listener::{Address, address_owner};
pub(crate) use self::memory::memory_pair;
pub(crate) use self::multiplexer::{CONTROL, Multiplexer};
pub(crate) use self::origin::Origin;
pub(crate) use self::proc_pid::proc_pid;
pub(crate) use self::socket::split;
pub(crate) use self::turn::wake_after_events;
pub(crate) use self::unix::{ListenerDial, accept, connected_pair, listen, send_all};
