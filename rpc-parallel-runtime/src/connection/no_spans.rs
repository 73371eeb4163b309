//! Placeholders for spans, without the feature `tracing`.

use super::answering::Session;
use crate::wire::{FunctionId, SpanKeys, Unsent};

/// The span of the caller of a pending call.
pub(super) struct CallerSpan;

impl CallerSpan {
    pub(super) fn begin(_: &mut Unsent) -> Self {
        Self
    }
}

/// The spans in which a call was made.
pub(super) struct Callers;

impl Callers {
    pub(super) fn of(_: SpanKeys<'_>) -> Self {
        Self
    }
}

/// The span of a call.
pub(super) struct CallSpan;

impl CallSpan {
    pub(super) fn open(_: &dyn Session, _: FunctionId, _: Callers) -> Self {
        Self
    }

    pub(super) fn run<T>(&self, run: impl FnOnce() -> T) -> T {
        run()
    }
}
