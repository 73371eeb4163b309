//! One round, run by the driver.

mod cleanup;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context;
use rpc_parallel::Settings;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bounds::{EXIT_BOUND, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, ROUND_BOUND};
use crate::event::{self, EventMessage, Problem, ProblemKind, ProcessEvent, ROUND_VARIABLE};
use crate::fault;
use crate::options;
use crate::plan::{Fault, FaultTarget, Milestone, PlannedFault, RoundPlan, Trigger};
use crate::process::{self, RoundProcess};

/// The time after which the driver resumes a stopped process that has no master.
const ORPHAN_STOP_TIME: Duration = Duration::from_millis(80);
/// The name of a snapshot process.
const SNAPSHOT_NAME: &str = "rpc-snapshot";
/// Small, because endless streams with larger windows would keep all cores busy.
const STREAM_WINDOW: usize = 16 * 1024;

/// The outcome of a round.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The number of injected faults.
    pub(crate) faults: u64,
    /// Socket files that remain of processes which were killed while they made a listener.
    pub(crate) socket_files: u64,
    pub(crate) problems: Vec<Problem>,
    /// The event log, one line per event.
    pub(crate) log: String,
}

/// The events for which the driver waits.
enum DriverEvent {
    Reported(EventMessage),
    MasterExited(std::io::Result<ExitStatus>),
    /// The planned fault of this index is due.
    FaultDue(usize),
    WorkloadTimeOver,
    RoundTimedOut,
}

struct Round {
    directory: PathBuf,
    plan: RoundPlan,
    start: Instant,
    sender: UnboundedSender<DriverEvent>,
    receiver: UnboundedReceiver<DriverEvent>,
    tasks: JoinSet<()>,
    master: u32,
    master_socket: Option<UnixStream>,
    /// For each planned fault, whether it has not been injected yet.
    pending_faults: Vec<bool>,
    /// The first master has its snapshot, and starts workers.
    master_started: bool,
    /// The driver has asked the first master to stop its workers.
    stop_requested: bool,
    workload_time_over: bool,
    /// The first master is stopped, and no process will resume it.
    master_stopped: bool,
    /// The names of all workers that have reached `init`, by pid.
    names: BTreeMap<u32, String>,
    /// The pids of all processes that a fault was injected into.
    faulted: Vec<u32>,
    /// The name and the reason of each reported failure.
    failures: Vec<(String, String)>,
    /// The pid and the handle of each detached worker, by name.
    detached: BTreeMap<String, (u32, String)>,
    /// The names of the detached workers that the driver has ended.
    ended_detached: BTreeSet<String>,
    outcome: Outcome,
}

/// Plays a round in its own directory, which is removed afterwards.
pub(crate) async fn play(plan: RoundPlan, directory: PathBuf) -> anyhow::Result<Outcome> {
    fs::create_dir(&directory).context("failed to create the directory of a round")?;
    fs::create_dir(temporary(&directory)).context("failed to create the directory of a round")?;
    let (sender, receiver) = unbounded_channel();
    let mut tasks = JoinSet::new();
    let listener = UnixListener::bind(event::socket(&directory))
        .context("failed to listen for the events of a round")?;
    tasks.spawn(receive_events(listener, sender.clone()));
    let (socket, process) = start_master(&directory)?;
    let master = process.id().context("expected a pid: the process is not reaped yet")?;
    tasks.spawn(wait_for_exit(process, sender.clone()));

    let mut round = Round {
        start: Instant::now(),
        pending_faults: vec![true; plan.faults.len()],
        master_started: false,
        stop_requested: false,
        workload_time_over: false,
        master_stopped: false,
        names: BTreeMap::new(),
        faulted: Vec::new(),
        failures: Vec::new(),
        detached: BTreeMap::new(),
        ended_detached: BTreeSet::new(),
        outcome: Outcome::default(),
        master_socket: Some(socket),
        directory,
        plan,
        sender,
        receiver,
        tasks,
        master,
    };
    round.begin().await?;
    round.run().await;
    round.clean_up().await;
    round.tasks.shutdown().await;
    let Round { directory, mut outcome, .. } = round;
    let stderr = fs::read_to_string(directory.join("stderr")).unwrap_or_default();
    if !stderr.is_empty() {
        let _ = writeln!(outcome.log, "stderr:\n{stderr}");
    }
    fs::remove_dir_all(&directory).context("failed to remove the directory of a round")?;
    Ok(outcome)
}

/// Returns the directory for the temporary files of a round's processes.
fn temporary(round: &Path) -> PathBuf {
    round.join("t")
}

/// Starts the first master.
fn start_master(directory: &Path) -> anyhow::Result<(UnixStream, Child)> {
    let (ours, theirs) = net::UnixStream::pair().context("failed to make a socket pair")?;
    let stderr = File::create(directory.join("stderr"))?;
    let process = Command::new("/proc/self/exe")
        .arg(options::MASTER)
        .env(ROUND_VARIABLE, directory)
        .env("TMPDIR", temporary(directory))
        .env("RPC_PARALLEL_SETTINGS", settings()?.to_string())
        .stdin(OwnedFd::from(theirs))
        .stderr(stderr)
        .spawn()
        .context("failed to start the master of a round")?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, process))
}

/// Returns the settings of all processes of a round.
fn settings() -> anyhow::Result<Settings> {
    Ok(Settings::default()
        .with_heartbeat_interval(HEARTBEAT_INTERVAL)
        .with_heartbeat_timeout(HEARTBEAT_TIMEOUT)
        .with_handshake_timeout(EXIT_BOUND)
        .with_stream_window(STREAM_WINDOW))
}

async fn wait_for_exit(mut process: Child, sender: UnboundedSender<DriverEvent>) {
    let _ = sender.send(DriverEvent::MasterExited(process.wait().await));
}

/// Receives the events that the processes of a round report.
async fn receive_events(listener: UnixListener, sender: UnboundedSender<DriverEvent>) {
    let mut processes = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let sender = sender.clone();
        processes.spawn(async move {
            let mut lines = BufReader::new(socket).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // A killed process may leave an incomplete line.
                let Ok(message) = serde_json::from_str(&line) else { continue };
                let _ = sender.send(DriverEvent::Reported(message));
            }
        });
    }
}

impl Round {
    async fn begin(&mut self) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&self.plan)?;
        line.push(b'\n');
        if let Some(socket) = &mut self.master_socket {
            socket.write_all(&line).await.context("failed to send the plan to the master")?;
        }
        self.schedule_faults(&Trigger::RoundStart);
        self.send_later(self.plan.workload_time, DriverEvent::WorkloadTimeOver);
        self.send_later(ROUND_BOUND, DriverEvent::RoundTimedOut);
        Ok(())
    }

    /// Runs until the first master has exited, or is stopped and no planned event remains.
    async fn run(&mut self) {
        while let Some(event) = self.receiver.recv().await {
            match event {
                DriverEvent::Reported(message) => self.handle_report(message),
                DriverEvent::FaultDue(index) => self.inject_fault(index),
                DriverEvent::WorkloadTimeOver => self.workload_time_over = true,
                DriverEvent::MasterExited(status) => {
                    match status {
                        Ok(status) => self.log(&format!("the first master exited: {status}")),
                        Err(error) => {
                            self.log(&format!("failed to wait for the first master: {error}"));
                        }
                    }
                    return;
                }
                DriverEvent::RoundTimedOut => {
                    let processes = self.describe_processes();
                    let description = format!("not over after {ROUND_BOUND:?}: {processes}");
                    self.problem(ProblemKind::Hung, description);
                    return;
                }
            }
            self.request_stop_when_due().await;
            if self.stop_requested && self.master_stopped {
                return;
            }
        }
    }

    /// Asks the first master to stop its workers, when the workload time is over and no fault that
    /// depends only on time is pending.
    async fn request_stop_when_due(&mut self) {
        if self.stop_requested || !self.workload_time_over {
            return;
        }
        // A fault whose milestone was not reached may never become due.
        let faults = self.plan.faults.iter().zip(&self.pending_faults);
        let mut pending = faults.filter(|(_, pending)| **pending);
        if pending.any(|(fault, _)| fault.trigger == Trigger::RoundStart) {
            return;
        }
        self.stop_requested = true;
        self.log("the driver asks the first master to stop its workers");
        if let Some(socket) = &mut self.master_socket {
            // The write fails if the master has exited.
            let _ = socket.write_all(b".").await;
        }
    }

    fn handle_report(&mut self, EventMessage { pid, event }: EventMessage) {
        match event {
            ProcessEvent::MasterStarted { name } => {
                self.log(&format!("`{name}` ({pid}) becomes a master"));
                self.master_started = true;
            }
            ProcessEvent::Reached { name, milestone } => {
                self.log(&format!("{name} ({pid}): {milestone:?}"));
                if milestone == Milestone::Init {
                    self.names.insert(pid, name.clone());
                }
                self.schedule_faults(&Trigger::Reached(name, milestone));
            }
            ProcessEvent::SelfFault { name, fault } => {
                self.log(&format!("{name} ({pid}) injects {fault:?} into itself"));
                self.record_fault(pid, fault);
            }
            ProcessEvent::WorkerFailed { name, reason } => {
                self.log(&format!("{name} failed: {reason}"));
                self.failures.push((name, reason));
            }
            ProcessEvent::Detached { name, pid, handle } => {
                self.log(&format!("{name} ({pid}) is detached"));
                self.detached.insert(name, (pid, handle));
            }
            ProcessEvent::ProblemFound(problem) => self.problem(problem.kind, problem.description),
            ProcessEvent::WorkersStopped => self.log("the first master has stopped its workers"),
        }
    }

    /// Handles the reports that have arrived since.
    fn handle_pending_reports(&mut self) {
        while let Ok(event) = self.receiver.try_recv() {
            if let DriverEvent::Reported(message) = event {
                self.handle_report(message);
            }
        }
    }

    fn schedule_faults(&mut self, trigger: &Trigger) {
        for index in 0..self.plan.faults.len() {
            let fault = &self.plan.faults[index];
            if self.pending_faults[index] && fault.trigger == *trigger {
                self.send_later(fault.delay, DriverEvent::FaultDue(index));
            }
        }
    }

    fn inject_fault(&mut self, index: usize) {
        if !std::mem::take(&mut self.pending_faults[index]) {
            return;
        }
        let PlannedFault { target, fault, .. } = self.plan.faults[index].clone();
        let pids = self.pids_of(&target);
        self.log(&format!("inject {fault:?} into {target:?}: {pids:?}"));
        for pid in pids {
            // Until the new process executes its program, its parent waits in `posix_spawn`, so a
            // stop would stop the parent too.
            let stops = matches!(fault, Fault::Stop | Fault::Pause(_));
            if stops && !process::has_executed(pid) {
                self.log(&format!("{pid} has not executed its program yet"));
                continue;
            }
            let process = RoundProcess::open(pid, &self.directory);
            if process.is_some_and(|process| fault::inject(&process, fault)) {
                self.record_fault(pid, fault);
            }
        }
    }

    fn pids_of(&self, target: &FaultTarget) -> Vec<u32> {
        match target {
            FaultTarget::FirstMaster => vec![self.master],
            FaultTarget::Worker(name) => {
                self.names.iter().filter(|(_, it)| *it == name).map(|(pid, _)| *pid).collect()
            }
            FaultTarget::Newest => {
                process::tree(self.master).into_iter().skip(1).max().into_iter().collect()
            }
            FaultTarget::Snapshot => {
                let mut children = process::children(self.master);
                children.retain(|it| process::name(*it) == SNAPSHOT_NAME);
                children
            }
            FaultTarget::EverySecond => process::tree(self.master).into_iter().step_by(2).collect(),
            FaultTarget::All => process::tree(self.master),
        }
    }

    fn record_fault(&mut self, pid: u32, fault: Fault) {
        self.outcome.faults += 1;
        self.faulted.push(pid);
        match fault {
            Fault::Pause(time) => self.resume_later(pid, time),
            // No master detects that an orphan is stopped.
            Fault::Stop if self.is_orphan(pid) => self.resume_later(pid, ORPHAN_STOP_TIME),
            // The master waits for its snapshot as long as the function of the snapshot runs.
            Fault::Stop if !self.master_started && pid != self.master => {
                self.resume_later(pid, ORPHAN_STOP_TIME);
            }
            Fault::Stop => self.master_stopped |= pid == self.master,
            Fault::Kill | Fault::Segv | Fault::Term => {}
        }
    }

    /// Resumes a process after `delay`, unless the round is over before.
    fn resume_later(&mut self, pid: u32, delay: Duration) {
        let Some(process) = RoundProcess::open(pid, &self.directory) else { return };
        self.tasks.spawn(async move {
            sleep(delay).await;
            process.resume();
        });
    }

    /// Returns whether the master of a process has exited.
    fn is_orphan(&self, pid: u32) -> bool {
        let master = process::parent(pid).and_then(|it| RoundProcess::open(it, &self.directory));
        pid != self.master && master.is_none()
    }

    fn describe_processes(&self) -> String {
        let processes = process::processes_of(&self.directory);
        processes.into_iter().map(|it| process::describe(it.pid)).collect::<Vec<_>>().join(", ")
    }

    fn send_later(&mut self, delay: Duration, event: DriverEvent) {
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            sleep(delay).await;
            let _ = sender.send(event);
        });
    }

    fn problem(&mut self, kind: ProblemKind, description: String) {
        self.log(&format!("PROBLEM: {kind:?}: {description}"));
        self.outcome.problems.push(Problem { kind, description });
    }

    fn log(&mut self, line: &str) {
        let milliseconds = self.start.elapsed().as_secs_f64() * 1e3;
        let _ = writeln!(self.outcome.log, "{milliseconds:8.2} ms  {line}");
    }
}
