//! Why an item of a map has no result, or why a map ended early.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::connection::{AnyError, Never, WorkerFailure};
use crate::pool::PoolError;
use crate::wire::PanicReport;

/// The error of one item of a map, or of the whole map.
///
/// [`index`](Self::index) says which item it is, [`kind`](Self::kind) what happened. The text also
/// names the function.
///
/// `E` is the error that the function returns. It is [`Never`] if the function does not return
/// a `Result`.
pub struct MapError<E = Never> {
    function: &'static str,
    index: Option<u64>,
    kind: MapErrorKind<E>,
}

/// What happened to an item, or to the whole map.
#[derive(Debug)]
#[non_exhaustive]
pub enum MapErrorKind<E = Never> {
    /// The function returned this error.
    Function(E),

    /// The function panicked. The worker continued with the next item.
    Panicked(PanicReport),

    /// Each worker that ran the item died.
    WorkerDied {
        /// The number of workers that died.
        attempts: u8,
        /// The failure report of the last one.
        last: WorkerFailure,
    },

    /// Each worker that ran the item ended, the last one without a failure report: it was shut down.
    WorkerEnded {
        /// The number of workers that ended.
        attempts: u8,
    },

    /// The function did not return within the [timeout](super::Map::timeout) of the map, and its
    /// worker was killed.
    TimedOut {
        /// The timeout.
        after: Duration,
    },

    /// The item or its result cannot be encoded or decoded, or is too large.
    Message {
        /// What failed.
        why: String,
    },

    /// The source of the items failed. The map ends.
    Source(AnyError),

    /// The source of the items panicked. The map ends.
    SourcePanicked(PanicReport),

    /// The pool cannot run items: its workers could not be started, or it was shut down. The map
    /// ends.
    Pool(PoolError),

    /// The workers cannot run the function, for example because the state of their connections
    /// failed to initialize. The map ends.
    Session {
        /// The answer of a worker.
        why: String,
    },
}

impl<E> MapError<E> {
    pub(super) fn of_item(function: &'static str, index: u64, kind: MapErrorKind<E>) -> Self {
        Self { function, index: Some(index), kind }
    }

    /// Returns the error of the function that combines the results of a reduction.
    pub(super) fn of_combination(function: &'static str, kind: MapErrorKind<E>) -> Self {
        Self { function, index: None, kind }
    }

    pub(super) fn of_map(function: &'static str, end: MapEnd) -> Self {
        let kind = match end {
            MapEnd::Source(error) => MapErrorKind::Source(error),
            MapEnd::SourcePanicked(panic) => MapErrorKind::SourcePanicked(panic),
            MapEnd::Pool(error) => MapErrorKind::Pool(error),
            MapEnd::Session { why } => MapErrorKind::Session { why },
        };
        Self { function, index: None, kind }
    }

    /// Returns the index of the item, counted from 0 in the order of the source. Returns `None` if
    /// the error concerns the whole map.
    pub fn index(&self) -> Option<u64> {
        self.index
    }

    /// Returns what happened.
    pub fn kind(&self) -> &MapErrorKind<E> {
        &self.kind
    }

    /// Returns what happened, by value.
    pub fn into_kind(self) -> MapErrorKind<E> {
        self.kind
    }

    /// Returns whether the error concerns the whole map: no further results follow it.
    pub fn ends_map(&self) -> bool {
        self.index.is_none()
    }
}

impl<E: fmt::Display> fmt::Display for MapError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = self.function;
        match self.index {
            Some(index) => write!(f, "item {index} of `{function}`: ")?,
            None => write!(f, "map of `{function}` failed: ")?,
        }
        match &self.kind {
            MapErrorKind::Function(error) => error.fmt(f),
            MapErrorKind::Panicked(panic) => write!(f, "the function panicked: {panic}"),
            MapErrorKind::WorkerDied { attempts: 1, last } => {
                write!(f, "the worker that ran it died: {last}")
            }
            MapErrorKind::WorkerDied { attempts, last } => {
                write!(f, "{attempts} workers that ran it died, the last one: {last}")
            }
            MapErrorKind::WorkerEnded { attempts } => {
                write!(f, "{attempts} workers ended while they ran it")
            }
            MapErrorKind::TimedOut { after } => {
                write!(f, "the function did not return within {after:?}, its worker was killed")
            }
            MapErrorKind::Message { why } => f.write_str(why),
            MapErrorKind::Source(error) => write!(f, "the source failed: {error}"),
            MapErrorKind::SourcePanicked(panic) => write!(f, "the source panicked: {panic}"),
            MapErrorKind::Pool(error) => error.fmt(f),
            MapErrorKind::Session { why } => f.write_str(why),
        }
    }
}

impl<E: fmt::Display> fmt::Debug for MapError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: fmt::Display> Error for MapError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            MapErrorKind::Pool(error) => Some(error),
            MapErrorKind::WorkerDied { last, .. } => last.source(),
            _ => None,
        }
    }
}

/// Why a map ended before its source.
#[derive(Clone)]
pub(super) enum MapEnd {
    Source(AnyError),
    SourcePanicked(PanicReport),
    Pool(PoolError),
    Session { why: String },
}

/// The failure report of a worker, or `None` if the connection was lost for another reason.
pub(super) type DeathReason = Option<WorkerFailure>;
