//! What wakes the supervisor thread: requests of other threads, and the kinds of its epoll events.

use std::sync::Arc;
use std::time::Duration;

use super::control_event::ControlEvent;
use super::process::Process;
use super::supervised::NewProcess;
use crate::connection::OverdueCall;

/// A request to the supervisor thread.
pub(super) enum Request {
    Supervise(Box<NewProcess>),
    /// The process was not launched.
    NotLaunched(Arc<Process>),
    /// A worker in this process has sent an event, or has ended its control connection.
    Event(u64, ControlEvent),
    ControlEnd(u64),
    /// Enforce the end of the process. Its end was requested within this time.
    EnforceEnd(Arc<Process>, Duration),
    /// Enforce the end of the process within the default time, unless its end is enforced already.
    EnforceDefaultEnd(Arc<Process>),
    /// Kill the process, because of a call that exceeded its deadline.
    KillOverdue(Arc<Process>, OverdueCall),
}

/// Marks an epoll event as a new request.
pub(super) const WAKE: u64 = u64::MAX;

/// Marks an epoll event as a request for a connection to the keeper of jobs.
#[cfg(feature = "pool")]
pub(super) const JOB_REQUEST: u64 = u64::MAX - 1;

/// Marks an epoll event as one of a control socket. Without it, the event is the exit of the
/// process.
pub(super) const CONTROL_EVENT: u64 = 1 << 63;

/// Marks an epoll event as the exit of a helper process.
pub(super) const HELPER_EXIT: u64 = 1 << 62;
