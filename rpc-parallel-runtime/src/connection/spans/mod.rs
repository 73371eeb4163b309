//! Spans across processes: a call carries the keys of the spans in which it is made, and its
//! function runs in a span that holds these keys.

mod callers;
mod caller_span;
mod call_span;

pub(in crate::connection) use self::call_span::CallSpan;
pub(in crate::connection) use self::caller_span::CallerSpan;
pub(crate) use self::caller_span::{Reading, find, process};
pub(crate) use self::callers::{Callers, Inherited};
