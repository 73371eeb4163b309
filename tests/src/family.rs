//! A master that a test starts as a program, its workers and theirs: all of them can be found, and
//! nothing may be left of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{is_gone, kill, marked, still_marked_after};
use crate::program::{Ended, Program};

/// How long anything may live after the master: most of it is time to clean up.
pub const LIMIT: Duration = Duration::from_secs(2);

/// All that a family starts has this variable in its environment.
const MARK: &str = "RPC_PARALLEL_TEST_FAMILY";

/// A master that runs, its workers, and theirs: one of `src/bin/left_behind.rs`, or of a program
/// that prints the same lines.
pub struct Family {
    /// What it does.
    pub what: String,
    /// The program.
    pub master: Program,
    /// Those that have said that they began, in this order.
    pub workers: Vec<u32>,
    mark: Mark,
    temporary: TempDir,
}

/// How a master ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Its `main` returns.
    Return,
    /// Its `main` panics.
    Panic,
    /// It calls `exit`.
    Exit,
    /// It calls `abort`.
    Abort,
    /// It is killed by SIGKILL.
    Kill,
}

impl End {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Return, Self::Panic, Self::Exit, Self::Abort, Self::Kill];
}

impl Family {
    /// Starts a program as a master, and waits for nothing.
    ///
    /// # Panics
    ///
    /// It cannot be started.
    #[must_use]
    pub fn begin(command: &mut Command, what: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mark = Mark(format!("{}-{number}", std::process::id()));
        let temporary = tempfile::tempdir().expect("make a directory");
        command.env(MARK, &mark.0).env("TMPDIR", temporary.path());
        let master = Program::start(command);
        Self { what: what.to_owned(), master, workers: Vec::new(), mark, temporary }
    }

    /// Waits for the next line.
    ///
    /// # Panics
    ///
    /// There comes none.
    pub fn line(&mut self) -> String {
        let line = self.master.line();
        if let Some(pid) = line.strip_prefix("worker ") {
            self.workers.push(pid.parse().expect("it is a process id"));
        }
        line
    }

    /// Waits until the master is ready, and so many workers are busy with what they shall do.
    ///
    /// # Panics
    ///
    /// They do not become so.
    pub fn become_ready(&mut self, workers: usize) {
        let (mut busy, mut ready) = (0, false);
        // Those that never come out of their `init` do nothing afterwards.
        let wanted = if self.what.ends_with("-in-init") { 0 } else { workers };
        while self.workers.len() < workers || busy < wanted || !ready {
            let line = self.line();
            busy += usize::from(line.starts_with("busy "));
            ready |= line == "ready";
        }
    }

    /// Returns all its processes that live.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        marked(MARK, &self.mark.0)
    }

    /// Ends the master, and checks that nothing is left; returns what it says of its end.
    ///
    /// # Panics
    ///
    /// Something is left, or the master does not end.
    pub fn end(mut self, end: End) -> Ended {
        let ended = Instant::now();
        match end {
            End::Return => self.master.tell("return"),
            End::Panic => self.master.tell("panic"),
            End::Exit => self.master.tell("exit"),
            End::Abort => self.master.tell("abort"),
            End::Kill => self.master.kill(),
        }
        self.ended(ended)
    }

    /// Checks that nothing is left of it soon after its end, and returns what it says of it.
    ///
    /// # Panics
    ///
    /// Something is left, or the master does not end.
    #[must_use]
    pub fn ended(self, since: Instant) -> Ended {
        let what = self.what;
        let left = still_marked_after(MARK, &self.mark.0, LIMIT.saturating_sub(since.elapsed()));
        let left: Vec<_> = left.into_iter().map(describe).collect();
        assert!(left.is_empty(), "{what}, after {:?}: {left:#?}", since.elapsed());
        let ended = self.master.end();
        assert_eq!(files_in(&self.temporary), [] as [PathBuf; 0], "{what}");
        ended
    }
}

/// What all processes of a family have in their environment.
struct Mark(String);

impl Drop for Mark {
    fn drop(&mut self) {
        // Where the test fails, nobody else shall suffer.
        if thread::panicking() {
            marked(MARK, &self.0).into_iter().filter(|it| !is_gone(*it)).for_each(kill);
        }
    }
}

/// Returns what can be said of a process that should be gone.
#[must_use]
pub fn describe(pid: u32) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let state = status.lines().filter(|it| it.starts_with("State") || it.starts_with("PPid"));
    format!("{pid} {} {}", read("cmdline").replace('\0', " "), state.collect::<String>())
}

fn files_in(directory: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path()).expect("it is there");
    entries.map(|it| it.expect("read it").path()).collect()
}
