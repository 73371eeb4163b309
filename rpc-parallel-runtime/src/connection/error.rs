//! Why a call gave no result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Loss, RestartLimitReached, WorkerFailure};
use crate::wire::{FunctionInfo, PanicReport, Refusal, TooLarge, WorkerLabel};

/// A call that gave no result: which function, on which worker, and why.
///
/// [`kind`](Self::kind) is for programs, the text for people.
#[derive(Clone, Debug)]
pub struct CallError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    function: &'static FunctionInfo,
    worker: Arc<WorkerLabel>,
    kind: CallErrorKind,
}

/// Why a call gave no result.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The function panicked. The worker and the connection live on.
    Panicked(PanicReport),
    /// The worker's process ended.
    WorkerDied(WorkerFailure),
    /// The worker's process ended, and is not started again, because that was done too often.
    RestartLimitReached {
        /// How it ended the last time.
        last: WorkerFailure,
        /// How often it may be started again..
        times: u32,
        /// ..within how long.
        within: Duration,
    },
    /// The connection broke, and how the worker fares is not known to this process.
    ConnectionLost {
        /// What was seen of it.
        why: String,
    },
    /// This process closed the connection.
    ConnectionClosed,
    /// The call's time was over: its own, or what it had inherited of the function that made it.
    TimedOut {
        /// How long the caller was willing to wait, from when the call was first polled.
        after: Duration,
        /// Why the call was never sent, if it was not: its worker was being started again, for
        /// instance. Then its function has surely not begun.
        unsent: Option<String>,
    },
    /// The worker has no such function: its program is another one.
    UnknownFunction {
        /// The functions that it has.
        offers: Vec<String>,
    },
    /// A message is larger than the settings allow. The connection lives on.
    TooLarge {
        /// Which message.
        side: MessageKind,
        /// Its size and the limit.
        too_large: TooLarge,
    },
    /// A message could not be turned into bytes.
    Unencodable {
        /// Which message.
        side: MessageKind,
        /// What the encoder said.
        why: String,
    },
    /// Bytes could not be turned back into a message.
    Undecodable {
        /// Which message.
        side: MessageKind,
        /// What the decoder said.
        why: String,
    },
}

/// One of the two messages of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// What the caller sends.
    Arguments,
    /// What the worker answers.
    Result,
}

impl CallError {
    pub(super) fn new(
        function: &'static FunctionInfo,
        worker: Arc<WorkerLabel>,
        kind: CallErrorKind,
    ) -> Self {
        Self(Box::new(Inner { function, worker, kind }))
    }

    /// Returns why the call gave no result.
    #[must_use]
    pub fn kind(&self) -> &CallErrorKind {
        &self.0.kind
    }

    /// Returns the function that was called.
    #[must_use]
    pub fn function(&self) -> &'static FunctionInfo {
        self.0.function
    }

    /// Returns the worker that was called.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.0.worker
    }
}

impl PartialEq for CallError {
    fn eq(&self, other: &Self) -> bool {
        let (this, other) = (&*self.0, &*other.0);
        this.function.id() == other.function.id()
            && this.worker == other.worker
            && this.kind == other.kind
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { function, worker, kind } = &*self.0;
        let (worker_trait, name) = (function.worker_trait(), function.name());
        write!(f, "call `{worker_trait}::{name}` on {worker}: {kind}")
    }
}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "the function {panic}"),
            Self::WorkerDied(failure) => write!(f, "the worker {}", failure.story()),
            Self::RestartLimitReached { last, times, within } => {
                write!(f, "the worker {}", given_up(last, *times, *within))
            }
            Self::ConnectionLost { why } => write!(f, "connection lost: {why}"),
            Self::ConnectionClosed => f.write_str("this process has closed the connection"),
            Self::TimedOut { after, unsent: None } => write!(f, "no answer within {after:?}"),
            Self::TimedOut { after, unsent: Some(why) } => {
                write!(f, "not sent within {after:?}: {why}")
            }
            Self::UnknownFunction { offers } => {
                f.write_str("the worker has no such function; it has ")?;
                write_list(f, offers)?;
                f.write_str("; was it started from another version of the program?")
            }
            Self::TooLarge { side, too_large } => {
                let verb = if *side == MessageKind::Arguments { "are" } else { "is" };
                write!(f, "the {side} {verb} too large: {too_large} (`max_message_size`)")
            }
            Self::Unencodable { side, why } => write!(f, "the {side} cannot be encoded: {why}"),
            Self::Undecodable { side, why } => write!(f, "the {side} cannot be decoded: {why}"),
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "arguments",
            Self::Result => "result",
        })
    }
}

/// Says that a worker is not started again, for a sentence that names it already.
pub(crate) fn given_up(last: &WorkerFailure, times: u32, within: Duration) -> String {
    let story = last.story();
    format!(
        "is not started again, after {times} restarts within {within:?}; the last time it {story}"
    )
}

fn write_list(f: &mut fmt::Formatter<'_>, items: &[String]) -> fmt::Result {
    match items {
        [] => f.write_str("none"),
        [first, rest @ ..] => {
            write!(f, "`{first}`")?;
            rest.iter().try_for_each(|it| write!(f, ", `{it}`"))
        }
    }
}

impl From<&Loss> for CallErrorKind {
    fn from(loss: &Loss) -> Self {
        match loss {
            Loss::Closed => Self::ConnectionClosed,
            Loss::Died(failure) => Self::WorkerDied(failure.clone()),
            Loss::Broken(why) | Loss::Failed(why) => Self::ConnectionLost { why: why.clone() },
            Loss::RestartLimitReached(given_up) => {
                let RestartLimitReached { last, times, within } = &**given_up;
                Self::RestartLimitReached { last: last.clone(), times: *times, within: *within }
            }
        }
    }
}

impl From<Refusal> for CallErrorKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Panicked(panic) => Self::Panicked(panic),
            Refusal::UnknownFunction { offers } => Self::UnknownFunction { offers },
            Refusal::Undecodable { why } => Self::Undecodable { side: MessageKind::Arguments, why },
            Refusal::Unencodable { why } => Self::Unencodable { side: MessageKind::Result, why },
            Refusal::TooLarge { size, max } => {
                Self::TooLarge { side: MessageKind::Result, too_large: TooLarge { size, max } }
            }
            other @ (Refusal::NoSuchWorker
            | Refusal::Cancelled
            | Refusal::Expired
            | Refusal::OtherBuild { .. }
            | Refusal::OtherTypes { .. }
            | Refusal::Init { .. }
            | Refusal::Violation { .. }) => {
                Self::ConnectionLost { why: format!("the worker answered {other:?}") }
            }
        }
    }
}
