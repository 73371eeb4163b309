//! The end of a round: checks that no process and no file remains, and removes what does.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use rpc_parallel::Worker;
use tokio::time::{sleep, timeout};

use super::{Round, temporary};
use crate::bounds::{EXIT_BOUND, HEARTBEAT_BOUND};
use crate::event::ProblemKind;
use crate::plan::{Lifetime, is_or_descends_from};
use crate::process::{self, ProcessState, RoundProcess};
use crate::worker::TestState;

const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl Round {
    /// Ends what remains of the round, and checks that nothing else remains.
    pub(super) async fn clean_up(&mut self) {
        if self.master_stopped && process::state(self.master) != ProcessState::Exited {
            self.check_workers_of_stopped_master().await;
        }
        if let Some(master) = RoundProcess::open(self.master, &self.directory) {
            master.kill();
        }
        // Events that were reported before the end count.
        self.handle_pending_reports();
        self.check_processes().await;
        self.check_files().await;
        self.check_failures();
    }

    /// Checks that workers end when the first master stays stopped, because they miss its
    /// heartbeats.
    async fn check_workers_of_stopped_master(&mut self) {
        self.log("the first master stays stopped");
        let start = Instant::now();
        loop {
            self.handle_pending_reports();
            let mut workers = process::processes_of(&self.directory);
            workers.retain(|worker| {
                // A process without a name waits for its start message until its master exits.
                let Some(name) = self.names.get(&worker.pid) else { return false };
                let detached = !self.detached_ancestors(name).is_empty();
                !detached && process::state(worker.pid) == ProcessState::Running
            });
            if workers.is_empty() {
                return;
            }
            if start.elapsed() > HEARTBEAT_BOUND {
                let workers: Vec<_> = workers.iter().map(|it| process::describe(it.pid)).collect();
                let description =
                    format!("alive {HEARTBEAT_BOUND:?} after the stop of the master: {workers:?}");
                return self.problem(ProblemKind::LeftOver, description);
            }
            sleep(POLL_INTERVAL * 5).await;
        }
    }

    /// Ends the detached workers that the driver has not ended before.
    async fn end_detached(&mut self) {
        for (name, (pid, handle)) in self.detached.clone() {
            if !self.ended_detached.insert(name.clone()) {
                continue;
            }
            // The worker may be stopped, and without a master no other process resumes it.
            if let Some(process) = RoundProcess::open(pid, &self.directory) {
                process.resume();
            }
            if process::state(pid) == ProcessState::Exited {
                continue;
            }
            self.log(&format!("the driver ends {name} ({pid})"));
            let worker = match serde_json::from_str::<Worker<TestState>>(&handle) {
                Ok(worker) => worker,
                Err(error) => {
                    let description = format!("failed to parse the handle of {name}: {error}");
                    self.problem(ProblemKind::Lost, description);
                    continue;
                }
            };
            let shutdown = worker.shutdown().timeout(EXIT_BOUND / 2);
            let mut shutdown = tokio::spawn(timeout(HEARTBEAT_BOUND, shutdown));
            // The worker may stop itself meanwhile. Its report lets the driver resume it.
            let result = loop {
                self.handle_pending_reports();
                if let Ok(result) = timeout(POLL_INTERVAL, &mut shutdown).await {
                    break result;
                }
            };
            // A failed request may have met a process that was exiting.
            let succeeded = matches!(result, Ok(Ok(Ok(_))));
            let start = Instant::now();
            while !succeeded
                && process::state(pid) != ProcessState::Exited
                && start.elapsed() < EXIT_BOUND
            {
                self.handle_pending_reports();
                sleep(POLL_INTERVAL).await;
            }
            if process::state(pid) != ProcessState::Exited {
                let process = process::describe(pid);
                let description = format!("{name} not ended, shutdown: {result:?}, {process}");
                self.problem(ProblemKind::LeftOver, description);
            }
        }
    }

    /// Checks that no process of the round remains, and kills those that do.
    async fn check_processes(&mut self) {
        let mut start = Instant::now();
        loop {
            self.handle_pending_reports();
            let ended_before = self.ended_detached.len();
            self.end_detached().await;
            if self.ended_detached.len() > ended_before {
                start = Instant::now();
            }
            let remaining = process::processes_of(&self.directory);
            if remaining.is_empty() {
                return;
            }
            // A process that has stopped itself is resumed after a while.
            let any_stopped =
                remaining.iter().any(|it| process::state(it.pid) == ProcessState::Stopped);
            if start.elapsed() > if any_stopped { HEARTBEAT_BOUND } else { EXIT_BOUND } {
                for process in remaining {
                    self.check_remaining_process(&process);
                    process.kill();
                }
                start = Instant::now();
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Records a problem for a process that remains, unless it cannot be ended or did not begin.
    fn check_remaining_process(&mut self, process: &RoundProcess) {
        let description = process::describe(process.pid);
        match self.names.get(&process.pid) {
            Some(_) if self.is_unreachable(process.pid) => {
                self.log(&format!("no process has a handle of {description}"));
            }
            None if self.is_left_by_launcher(process.pid) => {
                self.log(&format!("left by a launcher without a master: {description}"));
            }
            None if process::state(process.pid) == ProcessState::Stopped => {
                self.log(&format!("stopped before any of our code ran: {description}"));
            }
            name => {
                let name = name.map_or("a process without a name", String::as_str);
                self.problem(ProblemKind::LeftOver, format!("{name}: {description}"));
            }
        }
    }

    /// Returns whether a process is one of a launcher that hangs, which does not notice that its master
    /// was killed.
    fn is_left_by_launcher(&self, pid: u32) -> bool {
        let is_master = |pid: &u32| match self.names.get(pid) {
            Some(name) => self.plan.worker(name).is_some_and(|it| !it.workers.is_empty()),
            None => true,
        };
        ["sh", "sleep"].contains(&&*process::name(pid)) && self.faulted.iter().any(is_master)
    }

    /// Returns whether a process is, or descends from, a detached worker whose master exited before
    /// it reported the worker's handle.
    fn is_unreachable(&self, pid: u32) -> bool {
        let Some(name) = self.names.get(&pid) else { return false };
        self.detached_ancestors(name).into_iter().any(|it| !self.detached.contains_key(it))
    }

    /// Returns the names of the detached workers among the worker and its ancestors.
    fn detached_ancestors(&self, name: &str) -> Vec<&str> {
        let mut detached = Vec::new();
        let mut workers = &self.plan.workers;
        while let Some(worker) = workers.iter().find(|it| is_or_descends_from(name, &it.name)) {
            if worker.lifetime == Lifetime::Detached {
                detached.push(worker.name.as_str());
            }
            workers = &worker.workers;
        }
        detached
    }

    /// Checks that no file of the round remains, except those of killed processes that made a socket.
    async fn check_files(&mut self) {
        let temporary = temporary(&self.directory);
        let files = || {
            let files = fs::read_dir(&temporary).into_iter().flatten().flatten();
            files.map(|it| it.path()).collect::<Vec<_>>()
        };
        let start = Instant::now();
        while !files().is_empty() && start.elapsed() <= EXIT_BOUND {
            sleep(POLL_INTERVAL).await;
        }
        // A socket that is being made has a file and a record of it. The next process that makes one
        // in this directory removes both.
        let (mut sockets, mut records) = (0, 0);
        for file in files() {
            let file_type = fs::symlink_metadata(&file).map(|it| it.file_type());
            match file_type {
                Ok(it) if it.is_socket() && !self.faulted.is_empty() => sockets += 1,
                Ok(it) if it.is_symlink() && !self.faulted.is_empty() => records += 1,
                _ => {
                    self.problem(ProblemKind::LeftOver, format!("file {file:?}"));
                    continue;
                }
            }
            self.log(&format!(
                "left by a process that was killed while it made a socket: {file:?}"
            ));
        }
        self.outcome.socket_files += records.max(sockets);
    }

    /// Checks that a fault explains each reported failure: in the worker or in one of its
    /// ancestors.
    fn check_failures(&mut self) {
        for (name, reason) in std::mem::take(&mut self.failures) {
            let explains = |pid: &u32| match self.names.get(pid) {
                Some(faulted) => is_or_descends_from(&name, faulted),
                // The process had no name yet, so it may be any worker.
                None => true,
            };
            if !self.faulted.iter().any(explains) {
                let description = format!("{name} failed without an injected fault: {reason}");
                self.problem(ProblemKind::Lost, description);
            }
        }
    }
}
