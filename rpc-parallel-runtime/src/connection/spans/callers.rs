//! The spans in which a call was made.

use std::cell::RefCell;
use std::sync::Arc;

use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use crate::wire::{SpanKey, SpanKeys};

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

    /// Runs a closure as the function with these callers.
    pub(super) fn run<T>(&self, run: impl FnOnce() -> T) -> T {
        let _outer = Outer(HERE.replace(self.clone()));
        run()
    }
}

/// Restores the outer callers when it is dropped, also by a panic.
struct Outer(Callers);

impl Drop for Outer {
    fn drop(&mut self) {
        HERE.set(std::mem::take(&mut self.0));
    }
}
