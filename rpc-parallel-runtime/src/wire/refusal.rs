//! What a worker answers instead of a result.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, decode};

/// A panic: what it said, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Panic {
    /// The message it panicked with.
    pub message: String,
    /// The place in the source, as `file:line:column`.
    pub location: Option<String>,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, location } = self;
        match location {
            Some(location) => write!(f, "panicked at {location}: {message}"),
            None => write!(f, "panicked: {message}"),
        }
    }
}

/// Why a worker gave no result for a call, or no connection.
#[doc(hidden)]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The function, or the `init` of the connection, panicked.
    Panicked(Panic),
    /// The worker has no function with this id; it has these.
    UnknownFunction { offers: Vec<String> },
    /// The arguments could not be decoded.
    Undecodable { why: String },
    /// The result could not be encoded.
    Unencodable { why: String },
    /// The result is too large to travel.
    TooLarge { size: usize, max: usize },
    /// The caller wanted no answer any more, and the function was stopped.
    Cancelled,
    /// The time that the caller gave was over before the function could begin.
    Expired,
    /// There is no such worker server in the process.
    NoSuchWorker,
    /// The build of the worker is another one.
    OtherBuild { why: String },
    /// The two programs mean different things by one function.
    OtherTypes { why: String },
    /// The `init` of the connection failed.
    Init { why: String },
    /// The peer broke the rules of the conversation.
    Violation { why: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => panic.fmt(f),
            Self::UnknownFunction { .. } => {
                f.write_str("is unknown: the worker has no such function")
            }
            Self::Undecodable { why } => write!(f, "got arguments that cannot be decoded: {why}"),
            other => write!(f, "failed: {other:?}"),
        }
    }
}

impl Refusal {
    /// Decodes a refusal. It is no generic function, lest every program compile it anew.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}
