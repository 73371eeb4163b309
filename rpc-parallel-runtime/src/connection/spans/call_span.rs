//! The span of a function, in the called process.

use std::cell::RefCell;
use std::sync::Arc;

use tracing::{Span, info_span};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::caller_span::find;
use crate::connection::answering::Session;
use crate::wire::{FunctionId, SpanKey, SpanKeys};

/// The name of this span, and its target.
const CALL: &str = "rpc_parallel::call";

thread_local! {
    /// The callers of the function that runs on this thread.
    static HERE: RefCell<Callers> = const { RefCell::new(Callers(None)) };
}

/// The spans in which a call was made, innermost first. Usually they are spans of other processes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Callers(Option<Arc<[SpanKey]>>);

/// The extension of a call's span that holds its callers.
pub(crate) struct Inherited(pub(crate) Callers);

impl Callers {
    pub(in crate::connection) fn of(keys: SpanKeys<'_>) -> Self {
        let mut keys = keys.iter().peekable();
        Self(keys.peek().is_some().then(|| keys.collect()))
    }

    /// Returns the callers of the function that runs on this thread.
    pub(crate) fn here() -> Self {
        // A thread may log while its thread-local values are destroyed.
        HERE.try_with(|it| it.borrow().clone()).unwrap_or_default()
    }

    /// Returns the callers of the call that a span belongs to, also in a task that the function has
    /// spawned.
    pub(in crate::connection) fn of_span(span: &Span) -> Self {
        let found = span.with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<Registry>()?;
            let mut spans = registry.span(id)?.scope();
            spans.find_map(|it| it.extensions().get::<Inherited>().map(|it| it.0.clone()))
        });
        found.flatten().unwrap_or_else(Self::here)
    }

    pub(crate) fn keys(&self) -> &[SpanKey] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The span of a call, and its callers.
pub(in crate::connection) struct CallSpan {
    span: Span,
    callers: Callers,
}

impl CallSpan {
    /// Opens the span of a call. Its parent is the span of the caller, if that is a span of this
    /// process.
    pub(in crate::connection) fn open(
        session: &dyn Session,
        function: FunctionId,
        callers: Callers,
    ) -> Self {
        let caller = find(callers.keys());
        let span = info_span!(
            target: CALL,
            parent: caller.as_ref().and_then(Span::id),
            CALL,
            function = %session.function_name(function),
            worker = %session.worker_name(),
        );
        if !callers.keys().is_empty() {
            span.with_subscriber(|(id, dispatch)| {
                let span = dispatch.downcast_ref::<Registry>().and_then(|it| it.span(id));
                if let Some(span) = span {
                    span.extensions_mut().replace(Inherited(callers.clone()));
                }
            });
        }
        Self { span, callers }
    }

    /// Runs a closure in the span of the call.
    pub(in crate::connection) fn run<T>(&self, run: impl FnOnce() -> T) -> T {
        let _outer = Outer(HERE.replace(self.callers.clone()));
        self.span.in_scope(run)
    }
}

/// Restores the outer callers when it is dropped, also by a panic.
struct Outer(Callers);

impl Drop for Outer {
    fn drop(&mut self) {
        HERE.set(std::mem::take(&mut self.0));
    }
}
