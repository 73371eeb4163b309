//! Why a pipe broke.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::connection::failure::{Loss, WorkerFailure};
use crate::wire::{
    FrameWriter, PanicReport, StreamId, TooLarge, WorkerLabel, debug_as_display, fields,
    read_message,
};

/// The error of a pipe that broke: the worker at its other end, and the reason.
///
/// A pipe ends without an error if its writer has ended it. Every other end is a `PipeError`. The
/// reader gets the error as the last item, and the writer from [`send`](super::PipeWriter::send).
/// After [`TooLarge`](PipeErrorKind::TooLarge) and [`Unencodable`](PipeErrorKind::Unencodable),
/// which concern a single element, the pipe continues.
///
/// The error can be sent to other processes. So a worker function may return it, and use `?` on the
/// items of a pipe.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PipeError(Box<Inner>);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Inner {
    worker: Option<WorkerLabel>,
    kind: PipeErrorKind,
}

/// Why a pipe broke.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PipeErrorKind {
    /// The reader dropped the pipe.
    ReaderGone,
    /// The writer reported a failure by [`PipeWriter::fail`](super::PipeWriter::fail), or the
    /// function that writes the pipe did not begin.
    WriterFailed {
        /// The text of the failure.
        why: String,
    },
    /// The stream or function that writes the pipe panicked.
    Panicked(PanicReport),
    /// The call that writes the pipe was cancelled, before its function began or after.
    Cancelled,
    /// The process of the worker at the other end has ended. Only the process that started the
    /// worker gets this kind; other processes get [`ConnectionLost`](Self::ConnectionLost).
    WorkerDied(WorkerFailure),
    /// The connection broke. This process does not know whether the process at the other end is
    /// alive.
    ConnectionLost {
        /// How the connection broke.
        why: String,
    },
    /// This process closed the connection.
    ConnectionClosed,
    /// An element exceeds [`max_message_size`](crate::Settings::max_message_size). The pipe
    /// continues without it.
    TooLarge(TooLarge),
    /// An element could not be encoded. The pipe continues without it.
    Unencodable {
        /// The text of the encoder's error.
        why: String,
    },
    /// An element could not be decoded. The pipe ends. Its connection stays open.
    Undecodable {
        /// The text of the decoder's error.
        why: String,
    },
    /// This end of the pipe was sent to another process.
    Sent,
}

fields!(newtype PipeError);
fields!(struct Inner { worker, kind });
fields!(enum PipeErrorKind {
    0 => ReaderGone,
    1 => WriterFailed { why },
    2 => Panicked(panic),
    3 => Cancelled,
    4 => WorkerDied(failure),
    5 => ConnectionLost { why },
    6 => ConnectionClosed,
    7 => TooLarge(too_large),
    8 => Unencodable { why },
    9 => Undecodable { why },
    10 => Sent,
});

impl PipeError {
    pub(in crate::connection) fn new(worker: Option<&WorkerLabel>, kind: PipeErrorKind) -> Self {
        Self(Box::new(Inner { worker: worker.cloned(), kind }))
    }

    pub(in crate::connection) fn lost(loss: &Loss, worker: Option<&WorkerLabel>) -> Self {
        Self::new(worker, loss.into())
    }

    /// Returns why the pipe broke.
    #[must_use]
    pub fn kind(&self) -> &PipeErrorKind {
        &self.0.kind
    }

    /// Returns the worker at the other end of the pipe, if the other end is a worker.
    #[must_use]
    pub fn worker(&self) -> Option<&WorkerLabel> {
        self.0.worker.as_ref()
    }

    /// Returns whether the error concerns a single element, so that the pipe continues.
    pub(super) fn is_of_an_element(&self) -> bool {
        matches!(self.kind(), PipeErrorKind::TooLarge(_) | PipeErrorKind::Unencodable { .. })
    }

    /// Writes the error as the message of a frame.
    pub(in crate::connection) fn write(
        &self,
        begin: impl Fn(&mut Vec<u8>, StreamId) -> FrameWriter<'_>,
        stream: StreamId,
        frame: &mut Vec<u8>,
    ) {
        if begin(frame, stream).own_message(self).is_err() {
            let kind =
                PipeErrorKind::WriterFailed { why: "the error is too large to be sent".into() };
            let short = Self::new(None, kind);
            let written = begin(frame, stream).own_message(&short);
            debug_assert!(written.is_ok(), "a short error fits");
        }
    }

    /// Reads the end of a stream. Without bytes, the writer has ended the stream regularly.
    pub(in crate::connection) fn of_frame(
        error: &[u8],
        worker: Option<&WorkerLabel>,
    ) -> Result<(), Self> {
        if error.is_empty() {
            return Ok(());
        }
        let mut error = read_message(error).unwrap_or_else(|_| {
            let why = "failed to decode the error".to_owned();
            Self::new(None, PipeErrorKind::WriterFailed { why })
        });
        // A forwarded error names the worker where the pipe broke.
        if error.0.worker.is_none() {
            error.0.worker = worker.cloned();
        }
        Err(error)
    }
}

impl From<&Loss> for PipeErrorKind {
    fn from(loss: &Loss) -> Self {
        match loss {
            Loss::Closed => Self::ConnectionClosed,
            Loss::Died(failure) => Self::WorkerDied(failure.clone()),
            Loss::RestartLimitReached(limit) => Self::WorkerDied(limit.last.clone()),
            Loss::Broken(why) | Loss::Failed(why) => Self::ConnectionLost { why: why.clone() },
        }
    }
}

debug_as_display!(PipeError);

/// The source is a [`PanicReport`], a [`TooLarge`], or the source of a [`WorkerFailure`]. The text
/// of the error contains the text of its source.
impl Error for PipeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.kind() {
            PipeErrorKind::Panicked(panic) => Some(panic),
            PipeErrorKind::WorkerDied(failure) => failure.source(),
            PipeErrorKind::TooLarge(too_large) => Some(too_large),
            _ => None,
        }
    }
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { worker, kind } = &*self.0;
        match worker {
            Some(worker) => write!(f, "pipe to {worker} broke: {kind}"),
            None => write!(f, "pipe broke: {kind}"),
        }
    }
}

impl fmt::Display for PipeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("the reader dropped it"),
            Self::WriterFailed { why } => write!(f, "the writer failed: {why}"),
            Self::Panicked(panic) => write!(f, "the writer {panic}"),
            Self::Cancelled => f.write_str("the call that writes it was cancelled"),
            Self::WorkerDied(failure) => write!(f, "the worker {}", failure.describe_end()),
            Self::ConnectionLost { why } => write!(f, "the connection was lost: {why}"),
            Self::ConnectionClosed => f.write_str("this process closed the connection"),
            Self::TooLarge(too_large) => {
                write!(f, "an element exceeds the limit: {too_large}; raise `max_message_size`")
            }
            Self::Unencodable { why } => write!(f, "failed to encode an element: {why}"),
            Self::Undecodable { why } => write!(f, "failed to decode an element: {why}"),
            Self::Sent => f.write_str("this end was sent to another process"),
        }
    }
}
