//! The workers of one master.

use rpc_parallel::launch::Snapshot;
use rpc_parallel::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bounds::EXIT_BOUND;
use crate::event::{ProblemKind, ProcessEvent, report, report_problem};
use crate::fleet_state::FleetState;
use crate::launching::start_by;
use crate::lifecycle::WorkerLifecycle;
use crate::plan::{StartMethod, WorkerEnding, WorkerPlan};
use crate::resources::Resources;
use crate::worker::{TestState, TestWorkerClient, TestWorkerConfig};

/// The workers of one master: one lifecycle task for each.
pub(crate) struct WorkerFleet {
    name: String,
    /// The resources of this process without the workers.
    baseline: Resources,
    stopping: watch::Sender<bool>,
    lifecycles: JoinSet<Option<TestWorkerClient>>,
    /// Clients of the workers that the master does not end. They keep these workers running.
    remaining: Vec<TestWorkerClient>,
    leaves_workers: bool,
    has_detached: bool,
}

impl WorkerFleet {
    /// Starts one lifecycle task for each worker.
    pub(crate) async fn start(
        workers: Vec<WorkerPlan>,
        name: String,
        snapshot: Option<Snapshot>,
    ) -> Self {
        // The first event and the first workers create resources that the process keeps.
        report(ProcessEvent::MasterStarted { name: name.clone() });
        let methods = [StartMethod::Exec, StartMethod::Snapshot];
        for method in &methods[..1 + usize::from(snapshot.is_some())] {
            let spawner = start_by(*method, snapshot.as_ref(), TestState::bounded_spawner());
            let has_data = *method == StartMethod::Snapshot;
            let config = TestWorkerConfig { has_data, ..TestWorkerConfig::default() };
            if let Ok(first) = spawner.spawn(config).await {
                let _ = first.shutdown().await;
            }
        }
        let baseline = Resources::current();
        let (stopping, stopping_receiver) = watch::channel(false);
        let state = FleetState::new(stopping_receiver, snapshot);
        let leaves_workers = workers.iter().any(|it| it.ending == WorkerEnding::LeaveRunning);
        let has_detached = workers.iter().any(WorkerPlan::has_detached);
        let mut lifecycles = JoinSet::new();
        for plan in workers {
            lifecycles.spawn(WorkerLifecycle::new(plan, state.clone()).run());
        }
        Self {
            name,
            baseline,
            stopping,
            lifecycles,
            remaining: Vec::new(),
            leaves_workers,
            has_detached,
        }
    }

    /// Ends the workers, and reports resources that this process still holds.
    pub(crate) async fn stop(&mut self) {
        self.stopping.send_replace(true);
        while let Some(lifecycle) = self.lifecycles.join_next().await {
            match lifecycle {
                Ok(client) => self.remaining.extend(client),
                Err(error) => {
                    report_problem(
                        ProblemKind::Lost,
                        format!("a task of a master failed: {error}"),
                    );
                }
            }
        }
        if self.leaves_workers {
            return;
        }
        // Other processes connect to a worker at any time, and a detached worker may hold open a
        // pipe whose output the first master relays.
        let with_descriptors = self.name.is_empty() && !self.has_detached;
        if let Some(surplus) = self.baseline.wait_for_release(EXIT_BOUND, with_descriptors).await {
            let description = format!("master `{}` still holds {surplus}", self.name);
            report_problem(ProblemKind::LeftOver, description);
        }
    }
}
