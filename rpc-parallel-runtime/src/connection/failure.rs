//! Why a worker, or a connection to it, ended.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::{PanicReport, WorkerId, WorkerLabel, debug_as_display, fields};

/// The failure report of a worker: its label, its exit reason, and the calls that were in progress.
///
/// `Display` writes the whole report as one message. Clones share the report. It can be sent to
/// other processes.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkerFailure(Arc<FailureReport>);

/// The content of a failure report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FailureReport {
    pub(crate) worker: WorkerLabel,
    pub(crate) id: WorkerId,
    pub(crate) exit_reason: ExitReason,
    pub(crate) why: Option<String>,
    pub(crate) panic: Option<PanicReport>,
    pub(crate) in_progress: Vec<String>,
    /// The function whose call exceeded its deadline.
    pub(crate) overdue: Option<String>,
    pub(crate) uptime: Duration,
    pub(crate) stderr: Vec<String>,
}

/// The maximum number of functions that a failure report names.
pub(crate) const MAX_IN_PROGRESS: usize = 8;

/// How the process of a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExitReason {
    /// The process exited with this code.
    Exited(i32),
    /// A signal killed the process.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Whether the process dumped core.
        core_dumped: bool,
    },
    /// The kernel killed the process because memory ran out, or the process aborted because an
    /// allocation failed.
    ///
    /// The kernel counts out-of-memory kills and logs the process id of each victim. Where the log
    /// cannot be read, or holds process ids of another namespace as in a container, the next worker
    /// that dies by `SIGKILL` after a kill in the master's own cgroup gets this reason.
    OutOfMemory,
    /// The process missed heartbeats for the
    /// [`heartbeat_timeout`](crate::Settings::heartbeat_timeout), and the supervisor killed it.
    Unresponsive {
        /// The time since the first heartbeat that the process did not answer.
        silence: Duration,
    },
    /// The process closed its control connection and kept running, and the supervisor killed it.
    ClosedControl,
    /// A process that was to replace a failed one did not start.
    NotStarted,
    /// A panic ended the server, and its process keeps running, see
    /// [`Server::on_failure`](crate::Server::on_failure).
    ServerEnded,
    /// A call of this process exceeded its deadline, and [`Call::kill`](crate::Call::kill) made the
    /// supervisor kill the process.
    DeadlineExceeded {
        /// The time that the call had.
        after: Duration,
    },
    /// The control connection of the worker has ended, and this process cannot learn how its process
    /// ended: its launcher gives no access to that, as [`over_stream`](crate::LaunchRequest::over_stream).
    Disconnected,
    /// The process has exited, but its exit status is unknown: this program ignores `SIGCHLD`, or
    /// another part of it has reaped the process.
    Unknown,
}

fields!(newtype WorkerFailure);
fields!(struct FailureReport {
    worker,
    id,
    exit_reason,
    why,
    panic,
    in_progress,
    overdue,
    uptime,
    stderr,
});
fields!(enum ExitReason {
    0 => Exited(code),
    1 => Signaled { signal, core_dumped },
    2 => OutOfMemory,
    3 => Unresponsive { silence },
    4 => ClosedControl,
    5 => NotStarted,
    6 => ServerEnded,
    7 => Unknown,
    8 => DeadlineExceeded { after },
    9 => Disconnected,
});

impl WorkerFailure {
    pub(crate) fn new(report: FailureReport) -> Self {
        Self(Arc::new(report))
    }

    /// Adds the reason why the worker ended, unless the report holds one.
    pub(crate) fn add_why(&mut self, why: &str) {
        if self.0.why.is_none() {
            Arc::make_mut(&mut self.0).why = Some(why.to_owned());
        }
    }

    /// Returns the label of the worker.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.0.worker
    }

    /// Returns the id of the worker.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// Returns how the worker's process ended.
    #[must_use]
    pub fn exit_reason(&self) -> ExitReason {
        self.0.exit_reason
    }

    /// Returns the panic that ended the worker, if a panic did.
    #[must_use]
    pub fn panic(&self) -> Option<&PanicReport> {
        self.0.panic.as_ref()
    }

    /// Returns the names of the functions that were in progress: those whose results the reporting
    /// process was waiting for.
    ///
    /// At most 8, without duplicates, in no particular order. Calls of other processes and the call
    /// of the [`overdue_function`](Self::overdue_function) are not among them.
    #[must_use]
    pub fn in_progress(&self) -> &[String] {
        &self.0.in_progress
    }

    /// Returns the name of the function whose call exceeded its deadline, if the exit reason is
    /// [`ExitReason::DeadlineExceeded`].
    #[must_use]
    pub fn overdue_function(&self) -> Option<&str> {
        self.0.overdue.as_deref()
    }

    /// Returns how long the worker's process ran.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.uptime
    }

    /// Returns the last lines that the worker wrote to its stderr, at most 20.
    ///
    /// Empty if the worker wrote nothing, or if its stderr does not pass through its master.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        &self.0.stderr
    }
}

// By hand, because serde implements them for `Arc` only with its feature `rc`.
impl Serialize for WorkerFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (*self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WorkerFailure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FailureReport::deserialize(deserializer).map(Self::new)
    }
}

debug_as_display!(WorkerFailure);

impl Error for ExitReason {}

/// The source is the panic that ended the worker, or its [`ExitReason`]. The text of the report
/// contains the text of its source.
impl Error for WorkerFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let FailureReport { panic, exit_reason, .. } = &*self.0;
        Some(panic.as_ref().map_or(exit_reason as &(dyn Error + 'static), |it| it))
    }
}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailureReport { worker, in_progress, .. } = &*self.0;
        write!(f, "{worker} {}", self.describe_event())?;
        if let [first, rest @ ..] = &in_progress[..] {
            write!(f, ", while `{first}`")?;
            rest.iter().try_for_each(|it| write!(f, ", `{it}`"))?;
            f.write_str(if rest.is_empty() { " ran" } else { " ran or waited" })?;
        }
        f.write_str(&self.last_lines())
    }
}

impl WorkerFailure {
    /// Describes the end of the worker, for a sentence whose subject is the worker.
    pub(crate) fn describe_end(&self) -> String {
        self.describe_event() + &self.last_lines()
    }

    fn describe_event(&self) -> String {
        let FailureReport { exit_reason, why, panic, overdue, uptime, .. } = &*self.0;
        let mut event = match panic {
            Some(panic) => format!("{panic}, and {exit_reason}"),
            None => exit_reason.to_string(),
        };
        if let Some(why) = why {
            event.push_str(": ");
            event.push_str(why);
        }
        if *exit_reason != ExitReason::NotStarted {
            event.push_str(&format!(" after {}", Rounded(*uptime)));
        }
        if let Some(function) = overdue {
            event.push_str(&format!(": `{function}` gave no answer"));
        }
        event
    }

    /// Describes the end of a process that did not become a worker, for a sentence whose subject is
    /// the process.
    pub(crate) fn describe_end_before_start(&self) -> String {
        format!("{}, before its start was complete{}", self.describe_event(), self.last_lines())
    }

    fn last_lines(&self) -> String {
        last_lines(&self.0.stderr)
    }
}

/// Writes the last lines of a worker's stderr, to be appended to the text of an error.
pub(crate) fn last_lines(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|it| format!("\n  | {it}")).collect();
    format!("; the last lines of its stderr:{lines}")
}

/// Writes a duration in its two largest units.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds @ 1..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled { signal, core_dumped } => {
                write!(f, "was killed by signal {signal}")?;
                if let Some(name) = signal_name(signal) {
                    write!(f, " ({name})")?;
                }
                if core_dumped { f.write_str(" and dumped core") } else { Ok(()) }
            }
            Self::OutOfMemory => f.write_str("ran out of memory and was killed"),
            Self::Unresponsive { silence } => {
                write!(f, "missed heartbeats for {} and was killed", Rounded(silence))
            }
            Self::ClosedControl => f.write_str("closed its control connection and was killed"),
            Self::Disconnected => f.write_str("lost its control connection"),
            Self::NotStarted => f.write_str("failed to restart"),
            Self::ServerEnded => f.write_str("was ended by the process that serves it"),
            Self::DeadlineExceeded { after } => {
                write!(f, "exceeded the {after:?} deadline of a call and was killed")
            }
            Self::Unknown => f.write_str("exited with an unknown status"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal;

    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    names.into_iter().find(|(it, _)| it.as_raw() == signal).map(|(_, name)| name)
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Loss {
    /// This side closed it.
    Closed,
    /// The worker's process ended.
    Died(WorkerFailure),
    /// The connection broke, for this reason.
    Broken(String),
    /// This process failed to read from or write to the socket, for this reason. The worker is not
    /// the cause, and may be alive.
    Failed(String),
    /// The worker's process ended, and is not restarted.
    RestartLimitReached(Box<RestartLimitReached>),
}

/// A worker that failed once more than its restart limit allows.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RestartLimitReached {
    pub(crate) last: WorkerFailure,
    pub(crate) times: u32,
    pub(crate) within: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{CallErrorKind, PipeErrorKind};
    use crate::wire::{Sink, decode, encode, read_message, write_message};

    fn failure() -> WorkerFailure {
        WorkerFailure::new(FailureReport {
            worker: WorkerLabel::here(Some("ledger".to_owned()), "Ledger".to_owned()),
            id: WorkerId::random(),
            exit_reason: ExitReason::Signaled { signal: 9, core_dumped: false },
            why: None,
            panic: None,
            in_progress: vec!["Ledger::wait".to_owned()],
            overdue: None,
            uptime: Duration::from_secs(7),
            stderr: vec!["the last line".to_owned()],
        })
    }

    #[test]
    fn errors_share_failure_report_of_lost_connection() {
        let failure = failure();
        let limit = RestartLimitReached {
            last: failure.clone(),
            times: 5,
            within: Duration::from_secs(60),
        };
        let losses = [Loss::Died(failure.clone()), Loss::RestartLimitReached(Box::new(limit))];

        for loss in &losses {
            let (CallErrorKind::WorkerDied(called)
            | CallErrorKind::RestartLimitReached { last: called, .. }) = CallErrorKind::from(loss)
            else {
                panic!("{loss:?}")
            };
            let PipeErrorKind::WorkerDied(piped) = PipeErrorKind::from(loss) else {
                panic!("{loss:?}")
            };
            assert!(Arc::ptr_eq(&called.0, &failure.0) && Arc::ptr_eq(&piped.0, &failure.0));
        }
    }

    #[test]
    fn failure_report_survives_its_encoding() {
        let failure = failure();
        let (mut own, mut serialized) = (Vec::new(), Vec::new());

        write_message(&failure, &mut Sink::new(&mut own, 4096));
        let encoded = encode(&failure, &mut Sink::new(&mut serialized, 4096));

        encoded.expect("the report holds texts and numbers");
        assert_eq!(read_message(&own), Ok(failure.clone()));
        assert_eq!(decode::<WorkerFailure>(&serialized).expect("the report was encoded"), failure);
    }
}
