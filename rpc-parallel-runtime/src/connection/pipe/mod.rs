//! Pipes: streams between two processes as values, in arguments and results of functions.

mod error;
mod travel;
mod channel;
mod reading;
mod reader;
mod remote;
mod writer;
mod pump;
mod callback;
mod into_pipe;

pub use self::callback::{AbortHandle, CloseReason, PipeEvent};
pub use self::error::{PipeError, PipeErrorKind};
pub use self::into_pipe::IntoPipe;
#[cfg(all(test, shuttle))]
pub(super) use self::pump::feed;
pub use self::reader::Pipe;
pub(super) use self::travel::{Opening, StreamStart, decoding, encoding, open};
pub use self::writer::{PipeWriter, TrySendError};
