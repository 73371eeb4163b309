//! Why a worker, or a connection to it, is no more.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::{Label, Panic, WorkerId};

/// A worker process that ended although nobody had asked it to: all that is known of it.
///
/// Its text is one message for people: who it was, how it ended and after how long, what it was
/// doing, and its last words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerFailure(pub(crate) Box<Obituary>);

/// What is told of a worker that is no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Obituary {
    pub(crate) worker: Label,
    pub(crate) id: WorkerId,
    pub(crate) death: Death,
    pub(crate) why: Option<String>,
    pub(crate) panic: Option<Panic>,
    pub(crate) in_progress: Vec<String>,
    pub(crate) uptime: Duration,
    pub(crate) stderr: Vec<String>,
}

/// How many functions an obituary names.
pub(crate) const MAX_IN_PROGRESS: usize = 8;

/// How a worker's process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Death {
    /// It exited, with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
    /// It was killed because memory ran out, or gave up because it was given no more.
    ///
    /// The kernel counts such deaths, and says in its log whom it has killed. Where the log cannot be
    /// read, or names processes by other numbers as in a container, what is counted in the master's
    /// own cgroup is taken for the next worker that dies by `SIGKILL`.
    OutOfMemory,
    /// It gave no sign of life for the
    /// [`liveness_timeout`](crate::Settings::liveness_timeout), and was killed.
    Unresponsive {
        /// For how long.
        silence: Duration,
    },
    /// It let go of its master, though it went on, and was killed.
    Lost,
    /// It was to take the place of one that had died, and did not start.
    NotStarted,
    /// It has a process that does other things too, and goes on: that ended it because of a panic,
    /// see [`Server::on_failure`](crate::Server::on_failure).
    Ended,
    /// It is gone, and only the process that started it knows how it ended.
    Gone,
}

impl WorkerFailure {
    /// Returns which worker it was.
    #[must_use]
    pub fn worker(&self) -> &Label {
        &self.0.worker
    }

    /// Returns the id of the worker.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// Returns how its process ended.
    #[must_use]
    pub fn death(&self) -> Death {
        self.0.death
    }

    /// Returns the panic that ended it, if it was one that no call had caught.
    #[must_use]
    pub fn panic(&self) -> Option<&Panic> {
        self.0.panic.as_ref()
    }

    /// Returns the functions whose results the process that tells of the failure waited for.
    ///
    /// Each stands there once, in no order, and they are few. What other processes waited for, they
    /// learn from their own calls.
    #[must_use]
    pub fn in_progress(&self) -> &[String] {
        &self.0.in_progress
    }

    /// Returns for how long it ran.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.uptime
    }

    /// Returns the last lines that the worker wrote to its stderr.
    ///
    /// Empty if it wrote nothing, or where its stderr was redirected away from its master.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        &self.0.stderr
    }
}

impl std::error::Error for WorkerFailure {}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Obituary { worker, in_progress, .. } = &*self.0;
        write!(f, "{worker} {}", self.event())?;
        if let [first, rest @ ..] = &in_progress[..] {
            write!(f, ", while `{first}`")?;
            rest.iter().try_for_each(|it| write!(f, ", `{it}`"))?;
            f.write_str(if rest.is_empty() { " ran" } else { " ran or waited" })?;
        }
        f.write_str(&self.last_lines())
    }
}

impl WorkerFailure {
    /// Returns what happened, for a sentence that names the worker already, and what it was doing.
    pub(crate) fn story(&self) -> String {
        self.event() + &self.last_lines()
    }

    fn event(&self) -> String {
        let Obituary { death, why, panic, uptime, .. } = &*self.0;
        let mut event = match panic {
            Some(panic) => format!("{panic}, outside of any call, and {death}"),
            None => death.to_string(),
        };
        if let Some(why) = why {
            event.push_str(": ");
            event.push_str(why);
        }
        if *death != Death::NotStarted {
            event.push_str(&format!(" after {}", Rounded(*uptime)));
        }
        event
    }

    fn last_lines(&self) -> String {
        let lines = &self.0.stderr;
        if lines.is_empty() {
            return String::new();
        }
        let lines: String = lines.iter().map(|it| format!("\n  | {it}")).collect();
        format!("; the last lines of its stderr:{lines}")
    }
}

/// A time as people say it.
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

impl fmt::Display for Death {
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
                write!(f, "gave no sign of life for {} and was killed", Rounded(silence))
            }
            Self::Lost => f.write_str("let go of its master and was killed"),
            Self::NotStarted => f.write_str("did not start again"),
            Self::Ended => f.write_str("was ended by the process that served it"),
            Self::Gone => f.write_str("is gone"),
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
    /// It broke, for the reason given.
    Broken(String),
    /// This process failed to read from or write to the socket, for the reason given. The worker is
    /// not the cause, and may live.
    Failed(String),
    /// The worker's process ended, and is not started again.
    GivenUp(Box<GivenUp>),
}

/// A worker that was started again and again, until its limit was reached.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GivenUp {
    pub(crate) last: WorkerFailure,
    pub(crate) times: u32,
    pub(crate) within: Duration,
}
