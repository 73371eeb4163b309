//! Why received bytes are not a frame that the protocol allows.

use super::greeting::GreetingError;

/// The peer sent bytes that are not a valid frame, or a frame that the protocol does not allow at
/// this point.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length of the frame exceeds the limit of the connection.
    #[error("frame of {size} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// The announced length, in bytes.
        size: usize,
        /// The largest allowed length, in bytes.
        max: usize,
    },
    /// The fragment is larger than any that this protocol version sends.
    #[error("fragment of {size} bytes exceeds the limit of {max} bytes")]
    FragmentTooLarge {
        /// The announced length of the fragment's bytes, without its fields.
        size: usize,
        /// The largest allowed length, in bytes.
        max: usize,
    },
    /// The kind of the frame, or a number in it, has no meaning in this protocol version.
    #[error("unknown {what} {value}")]
    Unknown {
        /// The field with the unknown number.
        what: &'static str,
        /// The number.
        value: u8,
    },
    /// The frame is too short for its fields.
    #[error("frame of kind {kind} is truncated after {len} bytes")]
    Short {
        /// The kind of the frame.
        kind: u8,
        /// The length of the frame, in bytes.
        len: usize,
    },
    /// The frame has no kind.
    #[error("empty frame")]
    Empty,
    /// The greeting in the frame is invalid.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// A limit that the peer announces is out of its range.
    #[error("announced limit `{limit}` is out of range: {value}")]
    Limit {
        /// The name of the setting.
        limit: &'static str,
        /// The announced value.
        value: u64,
    },
    /// The protocol does not allow this frame at this point.
    #[error("unexpected {0}")]
    OutOfPlace(&'static str),
    /// The frame violates the rules of a call.
    #[error("call {call}: {violation}")]
    Call {
        /// The number of the call.
        call: u64,
        /// The violated rule.
        violation: &'static str,
    },
    /// The frame violates the rules of a stream.
    #[error("stream {stream}: {violation}")]
    Stream {
        /// The id of the stream.
        stream: u64,
        /// The violated rule.
        violation: &'static str,
    },
    /// The frame violates the rules of fragmented frames.
    #[error("transfer {transfer}: {violation}")]
    Transfer {
        /// The id of the transfer.
        transfer: u32,
        /// The violated rule.
        violation: &'static str,
    },
}
