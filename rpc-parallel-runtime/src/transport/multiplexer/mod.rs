//! Several channels over one stream of bytes, for workers that are reached only by such a stream.
//!
//! Each channel is a stream of bytes in both directions with a flow-control window of its own, so a
//! channel that is not read delays no other one. Channel 0 carries the control connection, and its
//! bytes overtake those of the other channels.

mod frame;
mod machine;
mod shell;

pub(crate) use self::machine::CONTROL;
pub(crate) use self::shell::Multiplexer;
