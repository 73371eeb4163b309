//! Events that the processes of a round report to the driver.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::plan::{Fault, Milestone};

/// The environment variable of all processes of a round. Its value is the directory of the round.
pub(crate) const ROUND_VARIABLE: &str = "RPC_PARALLEL_CHAOS";

/// An event, and the process that reports it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventMessage {
    pub(crate) pid: u32,
    pub(crate) event: ProcessEvent,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ProcessEvent {
    /// A process becomes a master. The name of the first master is empty.
    MasterStarted {
        name: String,
    },
    /// A worker reaches a milestone. Its master reports the milestones outside of the process.
    Reached {
        name: String,
        milestone: Milestone,
    },
    /// A worker is about to inject a fault into its own process.
    SelfFault {
        name: String,
        fault: Fault,
    },
    /// A master observes the failure of a worker.
    WorkerFailed {
        name: String,
        reason: String,
    },
    /// A detached worker runs. The driver ends it by its handle.
    Detached {
        name: String,
        pid: u32,
        handle: String,
    },
    ProblemFound(Problem),
    /// The first master has stopped its workers.
    WorkersStopped,
}

/// A violation of what a round guarantees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    pub(crate) description: String,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum ProblemKind {
    /// A failure was not reported exactly once, or with another reason; or an answer is wrong.
    Lost,
    /// A call, a pipe, a start or an end exceeded its time limit.
    Hung,
    /// A process, descriptor, thread or file still exists.
    LeftOver,
}

/// Returns the path of the socket on which the driver of a round receives events.
pub(crate) fn socket(round: &Path) -> PathBuf {
    round.join("driver")
}

/// Reports an event to the driver.
///
/// Blocks while the driver is busy. Does nothing in a process that belongs to no round.
pub(crate) fn report(event: ProcessEvent) {
    static DRIVER: OnceLock<Option<Mutex<UnixStream>>> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| {
        let round = std::env::var_os(ROUND_VARIABLE)?;
        Some(Mutex::new(UnixStream::connect(socket(Path::new(&round))).ok()?))
    });
    let Some(driver) = driver else { return };
    let message = EventMessage { pid: std::process::id(), event };
    let mut line = serde_json::to_vec(&message).expect("an event is plain data");
    line.push(b'\n');
    let mut driver = driver.lock().expect("no thread panics while it holds this lock");
    // The write fails if the driver has exited; then the event has no receiver.
    let _ = driver.write_all(&line);
}

pub(crate) fn report_problem(kind: ProblemKind, description: impl Into<String>) {
    report(ProcessEvent::ProblemFound(Problem { kind, description: description.into() }));
}
