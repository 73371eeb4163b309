//! Connections between two processes: calls, answers and streams over a transport.
//!
//! One driver task owns each end of a connection. The calling end is a [`Client`]. The answering
//! end hands calls to a [`Session`]. This layer does not depend on worker states or processes.

mod answer;
mod answering;
mod any_error;
mod call;
#[cfg(feature = "pool")]
mod shared_call;
mod calls;
mod counted;
mod caller;
mod client;
mod deadline;
mod diagnostics;
mod error;
mod ends;
mod delivery;
mod failure;
mod inbox;
mod in_line;
mod received_one_way;
mod receiving;
mod one_way;
mod open_connections;
mod opening;
mod panics;
mod pause;
mod pipe;
mod process_access;
mod scope;
mod sending;
mod task;
mod serving;
mod shared;
mod sync;
mod writing;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(not(feature = "tracing"))]
#[path = "no_spans.rs"]
mod spans;
mod restart;
mod time_limit;
mod traffic;

#[cfg(any(test, fuzzing))]
mod scripted;
#[cfg(fuzzing)]
mod fuzzing;

pub use self::answer::{
    Answer, CallFailure, FunctionError, IsResult, Never, TravelsAsError, error_codec, fallible,
    plain,
};
pub(crate) use self::answering::{Answering, Incoming, Running, Session};
pub use self::any_error::AnyError;
#[cfg(feature = "pool")]
pub(crate) use self::call::EncodedCall;
pub use self::call::{Call, TryCall};
pub use self::client::Client;
pub(crate) use self::client::InFlight;
#[cfg(feature = "tracing")]
pub(crate) use self::client::WeakClient;
pub(crate) use self::diagnostics::diagnose;
pub(crate) use self::error::restart_limit_text;
pub use self::error::{CallError, CallErrorKind, Execution, KillOutcome, MessageKind};
pub use self::failure::{ExitReason, WorkerFailure};
pub(crate) use self::failure::{
    FailureReport, Loss, MAX_IN_PROGRESS, RestartLimitReached, last_lines,
};
#[cfg(fuzzing)]
pub(crate) use self::fuzzing::converse;
pub(crate) use self::open_connections::write_queued_frames;
pub(crate) use self::opening::{
    Opening, OpeningError, Request, encode_control_request, encode_introduction, encode_request,
};
pub(crate) use self::panics::catch;
#[cfg(feature = "pool")]
pub(crate) use self::panics::drop_unfinished;
pub(crate) use self::panics::{
    Owner, catch_future, drop_silently, handle_no_panics, handle_no_panics_of_thread, install_hook,
    on_unhandled, set_panic_owner,
};
pub use self::panics::{blocking, handles_panics};
pub use self::pipe::{
    AbortHandle, CloseReason, IntoPipe, Pipe, PipeError, PipeErrorKind, PipeEvent, PipeWriter,
    TrySendError,
};
pub(crate) use self::process_access::{FailureLookup, Killer, OverdueCall, ProcessAccess};
pub(crate) use self::restart::{Connected, Reconnect, Reconnecting};
pub(crate) use self::scope::CallScope;
pub(crate) use self::serving::Serving;
#[cfg(test)]
use self::serving::ServingError;
#[cfg(feature = "pool")]
pub(crate) use self::shared_call::SharedCall;
#[cfg(feature = "tracing")]
pub(crate) use self::spans::{Callers, Inherited, Reading, find, process};
pub(crate) use self::task::{Task, task};
#[cfg(feature = "pool")]
pub(crate) use self::time_limit::TimeLimit;
pub(crate) use self::traffic::{Counts, Traffic};

/// Decodes bytes as the end of a stream.
#[cfg(fuzzing)]
pub(crate) fn decode_everything(bytes: &[u8]) {
    let _ = PipeError::of_frame(bytes, None);
}

#[cfg(test)]
mod tests;
