//! The arguments of a callback that reads a stream.

use super::pipe::PipeError;
use crate::wire::Body;

/// A callback for received pieces of a stream. The last call has the end, exactly once.
pub(super) type Deliver = Box<dyn FnMut(Delivery<'_>) -> Flow + Send>;

/// A received piece of a stream.
pub(super) enum Delivery<'a> {
    Elements {
        count: u32,
        elements: Body<'a>,
    },
    /// The error of an element that the peer failed to send.
    Skipped(PipeError),
    End(Result<(), PipeError>),
}

/// Whether a callback wants more elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Continue,
    Stop,
}
