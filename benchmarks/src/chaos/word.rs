//! What the processes of a round tell the driver.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use super::plan::{Blow, Point};

/// The environment variable that marks all processes of a round: the directory of the round.
pub(super) const MARK: &str = "RPC_PARALLEL_CHAOS";

/// Something that a process tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) pid: u32,
    pub(super) said: Said,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// A process begins to be a master; the first one has no name.
    Master {
        name: String,
    },
    /// A worker of this name has come to a place.
    Reached {
        name: String,
        point: Point,
    },
    /// A worker of this name is about to strike itself.
    StrikesItself {
        name: String,
        blow: Blow,
    },
    /// A master knows that a worker of this name is dead although nobody asked for it.
    ExitReason {
        name: String,
        how: String,
    },
    /// A worker will live until it is told to end, and this is how it can be told.
    Detached {
        name: String,
        pid: u32,
        handle: String,
    },
    Wrong(Problem),
    /// The first master has ended what it had to end.
    CloseReason,
}

/// Something that must not be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) what: String,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A death that was told not once, or without its cause.
    Lost,
    /// A call, a pipe or an end that did not come within its bound.
    Hung,
    /// A process, descriptor, thread or file that is still there.
    LeftOver,
}

/// Returns where the processes of a round tell what they tell.
pub(super) fn socket(round: &Path) -> PathBuf {
    round.join("driver")
}

/// Tells the driver something.
///
/// It blocks while the driver is busy, and does nothing in a process that no driver has begun.
pub(super) fn tell(said: Said) {
    static DRIVER: OnceLock<Option<Mutex<UnixStream>>> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| {
        let round = std::env::var_os(MARK)?;
        Some(Mutex::new(UnixStream::connect(socket(Path::new(&round))).ok()?))
    });
    let Some(driver) = driver else { return };
    let word = Word { pid: std::process::id(), said };
    let mut line = serde_json::to_vec(&word).expect("a word is plain data");
    line.push(b'\n');
    let mut driver = driver.lock().expect("nobody panics while holding this lock");
    // A driver that is gone wants to know nothing.
    let _ = driver.write_all(&line);
}

pub(super) fn tell_wrong(kind: Kind, what: impl Into<String>) {
    tell(Said::Wrong(Problem { kind, what: what.into() }));
}
