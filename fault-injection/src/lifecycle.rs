//! The lifecycle of one worker in its master: start, workloads, end, and the checks of each.

use std::sync::{Arc, Mutex};

use rpc_parallel::prelude::*;
use rpc_parallel::{Worker, WorkerFailure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bounds::{CALL_BOUND, EXIT_BOUND, HEARTBEAT_BOUND, START_BOUND};
use crate::deadline::{Deadline, within};
use crate::event::{ProblemKind, ProcessEvent, report, report_problem};
use crate::fleet_state::{FleetState, lock, wait_until_true};
use crate::launching::start_by;
use crate::plan::{Lifetime, Milestone, StartMethod, WorkerEnding, WorkerPlan, Workload};
use crate::process::{self, ProcessState};
use crate::worker::{TestState, TestWorkerClient, TestWorkerConfig};
use crate::workload::{self, WorkloadOutcome};

/// What a master does with one worker, from its start to its end.
pub(crate) struct WorkerLifecycle {
    plan: WorkerPlan,
    fleet: FleetState,
    /// The failures that `on_failure` has received.
    failures: Arc<Mutex<Vec<WorkerFailure>>>,
}

struct RunningWorker {
    pid: u32,
    client: TestWorkerClient,
    /// `None` if the worker's lifetime depends on its client.
    handle: Option<Worker<TestState>>,
}

impl WorkerLifecycle {
    pub(crate) fn new(plan: WorkerPlan, fleet: FleetState) -> Self {
        Self { plan, fleet, failures: Arc::default() }
    }

    /// Runs the worker until the master stops its workers. Returns the client if the plan leaves
    /// the worker running.
    pub(crate) async fn run(self) -> Option<TestWorkerClient> {
        let client = self.run_worker().await;
        if client.is_none() {
            self.check_failures();
        }
        client
    }

    async fn run_worker(&self) -> Option<TestWorkerClient> {
        sleep(self.plan.start_delay).await;
        self.report_milestone(Milestone::Starting);
        let worker = match within(START_BOUND, self.start()).await {
            Ok(Ok(worker)) => worker,
            Ok(Err(_)) if self.plan.start_method.hangs() => return None,
            Ok(Err(reason)) => {
                self.report_failure(reason);
                return None;
            }
            Err(_) => {
                self.problem(ProblemKind::Hung, format!("not started after {START_BOUND:?}"));
                return None;
            }
        };
        if self.plan.start_method.hangs() {
            self.problem(ProblemKind::Lost, "started by a launcher that starts nothing".to_owned());
        }
        self.report_milestone(Milestone::Started);
        if let Some(handle) = &worker.handle {
            self.fleet.add(self.plan.name.clone(), handle.clone());
        }
        if !self.plan.workers.is_empty() {
            // If the call fails, the worker has exited, which the checks below detect.
            let _ = worker.client.start_workers(self.plan.workers.clone()).await;
        }
        let (finish, finished) = watch::channel(false);
        let mut workloads = JoinSet::new();
        for &workload in &self.plan.workloads {
            let run = workload::run(
                workload,
                worker.client.clone(),
                self.fleet.clone(),
                finished.clone(),
            );
            workloads.spawn(async move { (workload, run.await) });
        }
        wait_until_true(&mut self.fleet.stopping.clone()).await;

        let alive = self.is_alive(worker.pid).await;
        if alive && !self.plan.workers.is_empty() {
            self.stop_workers_of(&worker).await;
        }
        // The workloads of a failed worker must end without this.
        if alive {
            finish.send_replace(true);
        }
        self.join_workloads(workloads, worker.pid).await;
        drop(finish);
        if !alive {
            return None;
        }
        self.end(worker).await
    }

    async fn start(&self) -> Result<RunningWorker, String> {
        let WorkerPlan { name, init, shutdown_time, self_fault, lifetime, .. } = &self.plan;
        let method = self.plan.start_method;
        let config = TestWorkerConfig {
            name: name.clone(),
            init: Some(*init),
            shutdown_time: *shutdown_time,
            self_fault: *self_fault,
            has_data: method == StartMethod::Snapshot,
        };
        let failures = self.failures.clone();
        let spawner = start_by(method, self.fleet.snapshot.as_ref(), TestState::bounded_spawner())
            .name(name)
            .on_failure(move |failure| lock(&failures).push(failure));
        let pid =
            |pid: Option<u32>| pid.ok_or_else(|| "expected a pid of a local worker".to_owned());
        let handle = match lifetime {
            Lifetime::Client => {
                let client = spawner.spawn(config).await.map_err(|it| it.to_string())?;
                let pid = pid(client.label().pid())?;
                return Ok(RunningWorker { pid, client, handle: None });
            }
            Lifetime::Master => spawner.start(config).await.map_err(|it| it.to_string())?,
            Lifetime::Detached => {
                let worker = spawner.start_detached(config).await.map_err(|it| it.to_string())?;
                let handle = serde_json::to_string(&worker).map_err(|it| it.to_string())?;
                report(ProcessEvent::Detached {
                    name: name.clone(),
                    pid: pid(worker.label().pid())?,
                    handle,
                });
                worker
            }
        };
        let pid = pid(handle.label().pid())?;
        match handle.connect(()).await {
            Ok(client) => Ok(RunningWorker { pid, client, handle: Some(handle) }),
            Err(error) => {
                self.is_alive(pid).await;
                // The worker had started, so `on_failure` must receive its failure.
                self.wait_for_failure().await;
                Err(error.to_string())
            }
        }
    }

    /// Returns whether the worker's process runs. Waits until a stopped process runs or exits, and
    /// until the failure of an exited process has been reported.
    async fn is_alive(&self, pid: u32) -> bool {
        let mut deadline = Deadline::after(HEARTBEAT_BOUND);
        loop {
            match process::state(pid) {
                ProcessState::Running => return true,
                ProcessState::Exited => break,
                ProcessState::Stopped if deadline.tick().await => {}
                ProcessState::Stopped => {
                    let description = format!("stopped and not killed after {HEARTBEAT_BOUND:?}");
                    self.problem(ProblemKind::Hung, description);
                    return true;
                }
            }
        }
        self.wait_for_failure().await;
        false
    }

    /// Waits until `on_failure` has received a failure of the worker.
    async fn wait_for_failure(&self) {
        let mut deadline = Deadline::after(CALL_BOUND);
        while lock(&self.failures).is_empty() {
            if !deadline.tick().await {
                let description = format!("exited, and no failure reported after {CALL_BOUND:?}");
                return self.problem(ProblemKind::Lost, description);
            }
        }
    }

    async fn stop_workers_of(&self, worker: &RunningWorker) {
        // The worker waits for the ends of its own workers, which wait for the ends of theirs.
        let bound = 4 * (CALL_BOUND + HEARTBEAT_BOUND + EXIT_BOUND);
        match within(bound, worker.client.stop_workers()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if self.is_alive(worker.pid).await {
                    self.problem(
                        ProblemKind::Lost,
                        format!("running, but the call failed: {error}"),
                    );
                }
            }
            Err(_) => {
                self.problem(ProblemKind::Hung, format!("its workers not stopped after {bound:?}"));
            }
        }
    }

    /// Checks that all workloads end, and that those of a failed worker end with its exit reason.
    async fn join_workloads(&self, mut workloads: JoinSet<(Workload, WorkloadOutcome)>, pid: u32) {
        let mut outcomes = Vec::new();
        let joined = within(CALL_BOUND, async {
            while let Some(outcome) = workloads.join_next().await {
                outcomes.push(outcome);
            }
        });
        if joined.await.is_err() {
            let hung = workloads.len();
            let ended: Vec<_> = outcomes.iter().flatten().map(|(workload, _)| workload).collect();
            let description =
                format!("{hung} workloads not ended after {CALL_BOUND:?}; ended: {ended:?}");
            self.problem(ProblemKind::Hung, description);
        }
        for outcome in outcomes {
            match outcome {
                Ok((_, WorkloadOutcome::Completed)) => {}
                Ok((workload, WorkloadOutcome::WorkerFailed(reason))) => {
                    // The worker may have exited after the last check.
                    self.is_alive(pid).await;
                    let reported = lock(&self.failures).first().map(WorkerFailure::exit_reason);
                    if reported != Some(reason) {
                        let description = format!(
                            "{workload:?} ended with {reason:?}, but on_failure got {reported:?}"
                        );
                        self.problem(ProblemKind::Lost, description);
                    }
                }
                Ok((workload, WorkloadOutcome::Unexpected(description))) => {
                    self.problem(ProblemKind::Lost, format!("{workload:?}: {description}"));
                }
                Err(error) => {
                    self.problem(ProblemKind::Lost, format!("a workload task failed: {error}"));
                }
            }
        }
    }

    /// Ends the worker as planned, and checks that its process exits. Returns the client if the
    /// plan leaves the worker running.
    async fn end(&self, worker: RunningWorker) -> Option<TestWorkerClient> {
        let RunningWorker { pid, client, handle } = worker;
        self.report_milestone(Milestone::Ending);
        match self.plan.ending {
            WorkerEnding::LeaveRunning => return Some(client),
            WorkerEnding::DropClient => drop(client),
            WorkerEnding::CloseServer => self.close_server(client, pid).await,
            WorkerEnding::Shutdown => self.shut_down(client, handle, pid).await,
        }
        let bound = match self.plan.ending {
            // The worker exits with its last connection, which a stopped process may hold.
            WorkerEnding::CloseServer => HEARTBEAT_BOUND,
            WorkerEnding::LeaveRunning | WorkerEnding::DropClient | WorkerEnding::Shutdown => {
                EXIT_BOUND
            }
        };
        let mut deadline = Deadline::after(bound);
        while process::state(pid) != ProcessState::Exited {
            if !deadline.tick().await {
                let description =
                    format!("not exited {bound:?} after its end: {}", process::describe(pid));
                self.problem(ProblemKind::LeftOver, description);
                break;
            }
        }
        None
    }

    async fn close_server(&self, client: TestWorkerClient, pid: u32) {
        match within(CALL_BOUND, client.close_server()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if self.is_alive(pid).await {
                    self.problem(
                        ProblemKind::Lost,
                        format!("running, but the call failed: {error}"),
                    );
                }
            }
            Err(_) => {
                self.problem(ProblemKind::Hung, format!("server not closed after {CALL_BOUND:?}"));
            }
        }
    }

    async fn shut_down(
        &self,
        client: TestWorkerClient,
        handle: Option<Worker<TestState>>,
        pid: u32,
    ) {
        let shutdown = match &handle {
            Some(handle) => handle.shutdown(),
            None => client.shutdown(),
        };
        match within(HEARTBEAT_BOUND, shutdown.timeout(CALL_BOUND / 2)).await {
            Ok(_) if process::state(pid) == ProcessState::Exited => {}
            Ok(result) => {
                let process = process::describe(pid);
                let description = format!("{process} exists, but shutdown returned {result:?}");
                self.problem(ProblemKind::Lost, description);
            }
            Err(_) => {
                self.problem(ProblemKind::Hung, format!("not shut down after {HEARTBEAT_BOUND:?}"));
            }
        }
    }

    /// Checks that at most one failure was reported. [`Self::wait_for_failure`] checks that there
    /// is one where it is expected.
    fn check_failures(&self) {
        let failures = lock(&self.failures).clone();
        if failures.len() > 1 {
            let description = format!("{} failures reported: {failures:?}", failures.len());
            self.problem(ProblemKind::Lost, description);
        }
        for failure in failures {
            self.report_failure(failure.to_string());
        }
    }

    fn report_milestone(&self, milestone: Milestone) {
        report(ProcessEvent::Reached { name: self.plan.name.clone(), milestone });
    }

    fn report_failure(&self, reason: String) {
        report(ProcessEvent::WorkerFailed { name: self.plan.name.clone(), reason });
    }

    fn problem(&self, kind: ProblemKind, description: String) {
        report_problem(kind, format!("{}: {description}", self.plan.name));
    }
}
