//! Reaps the orphans of workers, in a process that adopts orphans.
//!
//! The kernel makes a process whose parent ends a child of the nearest subreaper above it, or of
//! process 1 of its PID namespace. As a zombie it keeps its id until that process reaps it. Children
//! that other code of the program has started must not be reaped: that code waits for them. A worker
//! leads a session, so its orphans are recognised by their session.

use std::collections::VecDeque;
use std::fs;

use rustix::process::{Pid, WaitId, WaitIdOptions, child_subreaper, getpid, waitid};

/// The number of ended workers whose orphans are recognised.
const MAX_SESSIONS: usize = 4096;

/// The sessions of ended workers.
#[derive(Default)]
pub(super) struct Orphans {
    sessions: VecDeque<u32>,
}

impl Orphans {
    /// Returns whether this process adopts orphans.
    fn adopts() -> bool {
        getpid().is_init() || child_subreaper().is_ok_and(|it| it.is_some())
    }

    /// Adds a worker that has ended.
    pub(super) fn add(&mut self, worker: u32) {
        if !Self::adopts() {
            return;
        }
        if self.sessions.len() == MAX_SESSIONS {
            self.sessions.pop_front();
        }
        self.sessions.push_back(worker);
    }

    /// Reaps the orphans that have exited, and returns whether others are left.
    pub(super) fn reap(&self) -> bool {
        if self.sessions.is_empty() || !Self::adopts() {
            return false;
        }
        let mut are_left = false;
        for child in children() {
            match state_and_session(child) {
                Some((state, session)) if self.sessions.contains(&session) => {
                    if state == 'Z' {
                        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                        let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
                        // Another thread of the program may have reaped it.
                        let _ = pid.map(|it| waitid(WaitId::Pid(it), options));
                    } else {
                        are_left = true;
                    }
                }
                Some(_) | None => {}
            }
        }
        are_left
    }
}

/// Returns the children of all threads of this process.
fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let parse = |it: &str| it.parse().ok();
    lists.flat_map(|it| it.split_whitespace().filter_map(parse).collect::<Vec<_>>()).collect()
}

/// Returns the letter for the state of a process, and its session.
fn state_and_session(pid: u32) -> Option<(char, u32)> {
    // pid (name) state parent group session ..
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain any characters.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(2)?.parse().ok()?))
}
