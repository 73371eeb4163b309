//! One end of a connection as a state machine: calls, streams, flow control, and the order in which
//! frames are sent.
//!
//! Nothing here waits, reads a clock, or touches a socket or a runtime. The [`Decoder`] turns
//! received bytes into frames. The [`Machine`] handles them, and hands out the bytes to write as one
//! [`Transmit`] after the other. The layer `connection` moves the bytes and wakes the tasks.

mod waiter;
mod waiting_line;
mod written_line;
mod reassembly;
mod decoder;
mod transmit;
mod lane;
mod outgoing;
mod calls;
mod reading;
mod writing;
mod grant;
mod connection_window;
mod streams;
mod limits;
mod machine;
#[cfg(any(test, fuzzing))]
mod fuzzing;

pub(crate) use self::calls::{Answered, CallStatus, Progress};
pub(crate) use self::decoder::Decoder;
#[cfg(fuzzing)]
pub(crate) use self::fuzzing::drive;
pub(crate) use self::lane::Ticket;
pub(crate) use self::limits::Limits;
pub(crate) use self::machine::{Machine, Side};
pub(crate) use self::reading::{Chunk, DirectStep, ReadEnded};
pub(crate) use self::streams::Received;
pub(crate) use self::transmit::Transmit;
pub(crate) use self::waiting_line::{Line, Place};
pub(crate) use self::writing::{SendStatus, WriteClosed};

#[cfg(test)]
mod tests;
