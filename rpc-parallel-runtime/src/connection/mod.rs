//! Conversations of two processes: calls and their answers over a transport.
//!
//! One driver task owns each end. The end that calls is a [`Client`], the end that answers is
//! given a [`Session`]; neither knows what a worker is.

mod answer;
mod answering;
mod any_error;
mod call;
mod calls;
mod caller;
mod client;
mod deadline;
mod error;
mod failure;
mod inbox;
mod inflow;
mod one_way;
mod opening;
mod outbox;
mod outflow;
mod panics;
mod pending;
mod pipe;
mod scope;
mod sending;
mod serving;
mod shared;
mod traffic;
mod transfers;

#[cfg(any(test, fuzzing))]
mod scripted;
#[cfg(fuzzing)]
mod fuzzing;

pub use self::answer::{Answer, CallFailure, FunctionError, IsResult, fallible, plain};
pub(crate) use self::answering::{Answering, Incoming, Running, Session};
pub use self::any_error::AnyError;
pub use self::call::{Call, TryCall};
pub(crate) use self::caller::Autopsy;
pub use self::client::Client;
pub use self::error::{CallError, CallErrorKind, Side};
pub use self::failure::{Death, WorkerFailure};
#[cfg(fuzzing)]
pub(crate) use self::fuzzing::converse;
pub(crate) use self::opening::{Opening, OpeningError, Request, ask_for, introduce};
pub(crate) use self::panics::{catch_future, install_hook};
pub use self::pipe::{
    AbortHandle, Closed, Direct, IntoPipe, Pipe, PipeError, PipeErrorKind, PipeWriter, TrySendError,
};
pub(crate) use self::scope::CallScope;
pub(crate) use self::serving::Serving;
pub(crate) use self::traffic::{Counts, Traffic};

#[cfg(test)]
mod tests;
