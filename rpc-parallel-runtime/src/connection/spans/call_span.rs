//! The span of a function, in the called process.

use tracing::{Span, info_span};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::caller_span::find;
use super::callers::{Callers, Inherited};
use crate::connection::answering::Session;
use crate::wire::FunctionId;

/// The name of this span, and its target.
const CALL: &str = "rpc_parallel::call";

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
        self.callers.run(|| self.span.in_scope(run))
    }
}
