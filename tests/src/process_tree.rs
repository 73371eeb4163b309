//! A master that a test starts as a program, with all processes below it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{is_gone, kill, still_running_after, with_variable};
use crate::program::{Program, ProgramOutput};

/// How long a process may outlive its master. Most of it is the time for an orderly end.
pub const LIMIT: Duration = Duration::from_secs(2);

/// The environment variable that all processes of a tree have.
const VARIABLE: &str = "RPC_PARALLEL_TEST_TREE";

/// A running master with its direct and indirect workers: `src/bin/left_behind.rs`, or a program
/// that prints the same lines.
pub struct ProcessTree {
    /// What its workers do.
    pub behavior: String,
    /// The master.
    pub master: Program,
    /// The workers that have printed `worker <pid>`, in this order.
    pub workers: Vec<u32>,
    id: TreeId,
    temporary: TempDir,
}

/// A way for a master to end.
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
    /// The test kills it by SIGKILL.
    Kill,
}

impl End {
    /// All ways.
    pub const ALL: [Self; 5] = [Self::Return, Self::Panic, Self::Exit, Self::Abort, Self::Kill];
}

impl ProcessTree {
    /// Starts a program as a master. Does not wait for its workers.
    ///
    /// # Panics
    ///
    /// Panics if the program cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, behavior: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = TreeId(format!("{}-{number}", std::process::id()));
        let temporary = tempfile::tempdir().expect("make a directory");
        command.env(VARIABLE, &id.0).env("TMPDIR", temporary.path());
        let master = Program::start(command);
        Self { behavior: behavior.to_owned(), master, workers: Vec::new(), id, temporary }
    }

    /// Waits for the next line of the master or a worker.
    ///
    /// # Panics
    ///
    /// Panics if no line comes in time.
    pub fn line(&mut self) -> String {
        let line = self.master.line();
        if let Some(pid) = line.strip_prefix("worker ") {
            self.workers.push(pid.parse().expect("a process id follows `worker`"));
        }
        line
    }

    /// Waits until the master is ready and this many workers are busy.
    ///
    /// # Panics
    ///
    /// Panics if that does not happen in time.
    pub fn become_ready(&mut self, workers: usize) {
        let (mut busy, mut ready) = (0, false);
        // Workers whose `init` does not return never become busy.
        let wanted = if self.behavior.ends_with("-in-init") { 0 } else { workers };
        while self.workers.len() < workers || busy < wanted || !ready {
            let line = self.line();
            busy += usize::from(line.starts_with("busy "));
            ready |= line == "ready";
        }
    }

    /// Returns all running processes of the tree.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        with_variable(VARIABLE, &self.id.0)
    }

    /// Ends the master, checks that no process or file of the tree is left, and returns the output
    /// of the master.
    ///
    /// # Panics
    ///
    /// Panics if something is left or the master does not end.
    pub fn end(mut self, end: End) -> ProgramOutput {
        let since = Instant::now();
        match end {
            End::Return => self.master.write_line("return"),
            End::Panic => self.master.write_line("panic"),
            End::Exit => self.master.write_line("exit"),
            End::Abort => self.master.write_line("abort"),
            End::Kill => self.master.kill(),
        }
        self.ended(since)
    }

    /// Checks that no process or file of the tree is left [shortly](LIMIT) after the end of the
    /// master, and returns the output of the master.
    ///
    /// # Panics
    ///
    /// Panics if something is left or the master does not end.
    #[must_use]
    pub fn ended(self, since: Instant) -> ProgramOutput {
        let behavior = self.behavior;
        let left = still_running_after(VARIABLE, &self.id.0, LIMIT.saturating_sub(since.elapsed()));
        let left: Vec<_> = left.into_iter().map(describe).collect();
        assert!(left.is_empty(), "{behavior}, after {:?}: {left:#?}", since.elapsed());
        let output = self.master.end();
        assert_eq!(files_in(&self.temporary), [] as [PathBuf; 0], "{behavior}");
        output
    }
}

/// The value of [`VARIABLE`] in all processes of a tree.
struct TreeId(String);

impl Drop for TreeId {
    fn drop(&mut self) {
        // A failed test must not leave processes that disturb other tests.
        if thread::panicking() {
            with_variable(VARIABLE, &self.0).into_iter().filter(|it| !is_gone(*it)).for_each(kill);
        }
    }
}

/// Returns the id, arguments, state and parent of a process, for messages.
#[must_use]
pub fn describe(pid: u32) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let state = status.lines().filter(|it| it.starts_with("State") || it.starts_with("PPid"));
    format!("{pid} {} {}", read("cmdline").replace('\0', " "), state.collect::<String>())
}

fn files_in(directory: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path()).expect("read the directory");
    entries.map(|it| it.expect("read the entry").path()).collect()
}
