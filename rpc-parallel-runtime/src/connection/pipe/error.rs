//! Why a pipe ended before its end, or takes no more.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::connection::failure::{Loss, WorkerFailure};
use crate::wire::{
    FrameWriter, PanicReport, StreamId, TooLarge, WorkerLabel, fields, read_message,
};

/// A pipe that broke: at which worker, and why.
///
/// A pipe whose writer has finished just ends; this is for all else. The reader gets it as the last
/// item, and the writer from [`send`](super::PipeWriter::send). Where it is about a single element,
/// the pipe goes on: [`TooLarge`](PipeErrorKind::TooLarge) and
/// [`Unencodable`](PipeErrorKind::Unencodable).
///
/// It can be sent to other processes, so a function may return it and use `?` on what it reads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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
    /// Nobody reads it any more: the reader has dropped it.
    ReaderGone,
    /// Whoever writes it has said that it failed ([`PipeWriter::fail`](super::PipeWriter::fail)), or
    /// the function that was to write it has not begun.
    WriterFailed {
        /// What was said.
        why: String,
    },
    /// What writes it panicked.
    Panicked(PanicReport),
    /// The call that writes it was cancelled, before its function began or after.
    Cancelled,
    /// The process of the worker at its other end has ended. Only the process that started the
    /// worker knows this; others see a lost connection.
    WorkerDied(WorkerFailure),
    /// Its connection broke, and how the process at its other end fares is not known.
    ConnectionLost {
        /// What was seen of it.
        why: String,
    },
    /// This process closed its connection.
    ConnectionClosed,
    /// An element is larger than the settings allow. The pipe goes on without it.
    TooLarge(TooLarge),
    /// An element could not be turned into bytes. The pipe goes on without it.
    Unencodable {
        /// What the encoder said.
        why: String,
    },
    /// Bytes could not be turned back into an element. This ends the pipe, and the connection goes
    /// on.
    Undecodable {
        /// What the decoder said.
        why: String,
    },
    /// This end of the pipe has been sent to another process.
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

    /// Returns the worker at the other end of the pipe, if it is one.
    #[must_use]
    pub fn worker(&self) -> Option<&WorkerLabel> {
        self.0.worker.as_ref()
    }

    /// Says whether the pipe goes on: only one of its elements could not be sent.
    pub(super) fn is_of_an_element(&self) -> bool {
        matches!(self.kind(), PipeErrorKind::TooLarge(_) | PipeErrorKind::Unencodable { .. })
    }

    /// Writes it as the message of a frame.
    pub(in crate::connection) fn write(
        &self,
        begin: impl Fn(&mut Vec<u8>, StreamId) -> FrameWriter<'_>,
        stream: StreamId,
        frame: &mut Vec<u8>,
    ) {
        if begin(frame, stream).own_message(self).is_err() {
            let kind = PipeErrorKind::WriterFailed { why: "for a reason too long to tell".into() };
            let short = Self::new(None, kind);
            let written = begin(frame, stream).own_message(&short);
            debug_assert!(written.is_ok(), "a short error fits");
        }
    }

    /// Reads the end of a stream: no bytes are a good end.
    pub(in crate::connection) fn of_frame(
        error: &[u8],
        worker: Option<&WorkerLabel>,
    ) -> Result<(), Self> {
        if error.is_empty() {
            return Ok(());
        }
        let mut error = read_message(error).unwrap_or_else(|_| {
            let why = "for a reason that cannot be read".to_owned();
            Self::new(None, PipeErrorKind::WriterFailed { why })
        });
        // Where it was sent on, it names the worker where it broke.
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
            Loss::RestartLimitReached(given_up) => Self::WorkerDied(given_up.last.clone()),
            Loss::Broken(why) | Loss::Failed(why) => Self::ConnectionLost { why: why.clone() },
        }
    }
}

impl std::error::Error for PipeError {}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { worker, kind } = &*self.0;
        match worker {
            Some(worker) => write!(f, "pipe to {worker}: {kind}"),
            None => write!(f, "pipe: {kind}"),
        }
    }
}

impl fmt::Display for PipeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("its reader has dropped it"),
            Self::WriterFailed { why } => write!(f, "its writer failed: {why}"),
            Self::Panicked(panic) => write!(f, "its writer {panic}"),
            Self::Cancelled => f.write_str("the call that writes it was cancelled"),
            Self::WorkerDied(failure) => write!(f, "the worker {}", failure.story()),
            Self::ConnectionLost { why } => write!(f, "connection lost: {why}"),
            Self::ConnectionClosed => f.write_str("this process has closed the connection"),
            Self::TooLarge(too_large) => {
                write!(f, "an element is too large: {too_large} (`max_message_size`)")
            }
            Self::Unencodable { why } => write!(f, "an element cannot be encoded: {why}"),
            Self::Undecodable { why } => write!(f, "an element cannot be decoded: {why}"),
            Self::Sent => f.write_str("this end of it has been sent to another process"),
        }
    }
}
