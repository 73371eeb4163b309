//! Why a worker, or a connection to it, is no more.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::Label;

/// A worker process that ended although it was needed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerFailure {
    pub(crate) worker: Label,
    pub(crate) death: Death,
    pub(crate) stderr: Vec<String>,
}

/// How a process ended.
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
}

impl WorkerFailure {
    /// Returns which worker it was.
    #[must_use]
    pub fn worker(&self) -> &Label {
        &self.worker
    }

    /// Returns how its process ended.
    #[must_use]
    pub fn death(&self) -> Death {
        self.death
    }

    /// Returns the last lines that the worker wrote to its stderr.
    ///
    /// Empty if it wrote nothing, or where its stderr was redirected away from its master.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        &self.stderr
    }
}

impl std::error::Error for WorkerFailure {}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.worker, self.story())
    }
}

impl WorkerFailure {
    /// Returns what happened, for a sentence that names the worker already.
    pub(crate) fn story(&self) -> String {
        let mut story = self.death.to_string();
        if !self.stderr.is_empty() {
            story.push_str("; the last lines of its stderr:");
        }
        for line in &self.stderr {
            story.push_str("\n  | ");
            story.push_str(line);
        }
        story
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
}
