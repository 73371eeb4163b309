//! What a spawner has chosen, and how it starts a worker.
//!
//! Nothing here depends on the type of the worker, so it is compiled once and not in each program.

use std::pin::Pin;
use std::sync::Arc;

use super::connecting::ask_for;
use super::direct::SETTINGS_VARIABLE;
use super::harness::recipe;
use super::launching::{Launch, OnFailure, in_this_span};
use super::restart::Restart;
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::supervising;
use crate::connection::Client;
use crate::launch::{BadVariable, Lives, MARK_VARIABLE, Plan, Role, Started};
use crate::wire::{Settings, WorkerId};
use crate::worker::WorkerType;

/// The variables that a spawner may not change for a worker, and why.
const RESERVED: [(&str, &str); 2] = [
    (MARK_VARIABLE, "it is reserved"),
    (
        SETTINGS_VARIABLE,
        "masters read it, and it means nothing to a worker; use `Spawner::settings`",
    ),
];

/// What a spawner has chosen.
#[derive(Clone, Default)]
pub(super) struct SpawnOptions {
    pub(super) plan: Plan,
    pub(super) settings: Option<Settings>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) restart: Restart,
}

/// Encodes the argument of an `init` for a worker with these settings; an error says why it failed.
pub(super) type EncodeInit<'a> = &'a dyn Fn(Settings) -> Result<Vec<u8>, String>;

/// The future of a worker that is being started.
pub(super) type SpawnFuture<T> = Pin<Box<dyn Future<Output = Result<T, SpawnError>> + Send>>;

impl SpawnOptions {
    /// Starts a worker and connects to it.
    pub(super) fn spawn(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
        connection_init: EncodeInit<'_>,
    ) -> SpawnFuture<Client> {
        let (label, restart) = (self.describe(worker_type), self.restart);
        let prepared = self.prepare(worker_type, init).and_then(|launch| {
            let settings = launch.recipe.settings;
            let ask = ask_for(launch.id, connection_init(settings), settings);
            Ok((launch, ask.map_err(SpawnErrorKind::Connect)?))
        });
        Box::pin(async move {
            let spawned = async {
                let (mut launch, ask) = prepared?;
                launch.on_failure = launch.on_failure.map(in_this_span);
                supervising::spawn(launch, ask, restart).await
            };
            spawned.await.map_err(|kind| SpawnError::new(label, kind))
        })
    }

    /// Starts a worker without a connection, and returns it with its settings.
    pub(super) fn start(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
        lives: Lives,
    ) -> SpawnFuture<(Arc<Started>, Settings)> {
        let (label, restart) = (self.describe(worker_type), self.restart);
        let prepared = self.prepare(worker_type, init);
        Box::pin(async move {
            let started = async {
                let mut launch = prepared?;
                launch.on_failure = launch.on_failure.map(in_this_span);
                let settings = launch.recipe.settings;
                let started = supervising::start(launch, lives, restart).await?;
                if lives == Lives::UntilTold {
                    // The last step: if this process ends before it, the worker ends as well.
                    started.live_on();
                }
                Ok((started, settings))
            };
            started.await.map_err(|kind| SpawnError::new(label, kind))
        })
    }

    fn describe(&self, worker_type: &WorkerType) -> String {
        match &self.plan.name {
            Some(name) => format!("worker `{name}` ({})", worker_type.path()),
            None => format!("worker {}", worker_type.path()),
        }
    }

    /// Checks what has been chosen, before anything is started.
    fn prepare(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
    ) -> Result<Launch, SpawnErrorKind> {
        let recipe = recipe().map_err(SpawnErrorKind::Startup)?;
        let mut recipe = recipe.ok_or(SpawnErrorKind::NotInitialized)?.clone();
        let (depth, limit) = (Role::depth(), recipe.settings.max_depth());
        if depth >= limit {
            return Err(SpawnErrorKind::TooDeep { depth, limit });
        }
        recipe.settings = recipe.settings_for(self.settings);
        self.plan.environment.check(&RESERVED).map_err(|BadVariable { name, why }| {
            let variable = name.to_string_lossy().into_owned();
            SpawnErrorKind::Environment { variable, why: why.to_owned() }
        })?;
        let init = init(recipe.settings).map_err(|why| SpawnErrorKind::InitArgument { why })?;
        // The span that this is called in counts; without one, that in which the future is awaited.
        let on_failure = self.on_failure.map(in_this_span);
        Ok(Launch {
            plan: self.plan,
            recipe,
            worker_type,
            id: WorkerId::random(),
            init,
            on_failure,
        })
    }
}
