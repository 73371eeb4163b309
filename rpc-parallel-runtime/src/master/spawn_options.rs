//! What a spawner has chosen, and how it starts a worker.
//!
//! Nothing here depends on the type of the worker, so it is compiled once and not in each program.

use std::pin::Pin;
use std::sync::Arc;

use super::connecting::ask_for;
use super::expert::SETTINGS_VARIABLE;
use super::harness::spawn_defaults;
use super::restart_policy::RestartPolicy;
use super::restarting;
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::spawn_request::{OnFailure, SpawnRequest, in_this_span};
use crate::connection::Client;
use crate::launch::{BOOT_TOKEN_VARIABLE, BadVariable, Lifetime, Role, SpawnConfig, Started};
use crate::wire::{Settings, WorkerId};
use crate::worker::WorkerType;

/// The variables that a spawner may not change for a worker, and why.
const RESERVED: [(&str, &str); 2] = [
    (BOOT_TOKEN_VARIABLE, "it is reserved"),
    (
        SETTINGS_VARIABLE,
        "masters read it, and it means nothing to a worker; use `Spawner::settings`",
    ),
];

/// What a spawner has chosen.
#[derive(Clone, Default)]
pub(super) struct SpawnOptions {
    pub(super) config: SpawnConfig,
    pub(super) settings: Option<Settings>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) restart: RestartPolicy,
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
        let prepared = self.prepare(worker_type, init).and_then(|request| {
            let settings = request.spawn_defaults.settings;
            let ask = ask_for(request.id, connection_init(settings), settings);
            Ok((request, ask.map_err(SpawnErrorKind::Connect)?))
        });
        Box::pin(async move {
            let spawned = async {
                let (mut request, ask) = prepared?;
                request.on_failure = request.on_failure.map(in_this_span);
                restarting::spawn(request, ask, restart).await
            };
            spawned.await.map_err(|failure| SpawnError::new(label, failure))
        })
    }

    /// Starts a worker without a connection, and returns it with its settings.
    pub(super) fn start(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
        lifetime: Lifetime,
    ) -> SpawnFuture<(Arc<Started>, Settings)> {
        let (label, restart) = (self.describe(worker_type), self.restart);
        let prepared = self.prepare(worker_type, init);
        Box::pin(async move {
            let started = async {
                let mut request = prepared?;
                request.on_failure = request.on_failure.map(in_this_span);
                let settings = request.spawn_defaults.settings;
                let started = restarting::start(request, lifetime, restart).await?;
                if lifetime == Lifetime::Detached {
                    // The last step: if this process ends before it, the worker ends as well.
                    started.detach();
                }
                Ok((started, settings))
            };
            started.await.map_err(|failure| SpawnError::new(label, failure))
        })
    }

    fn describe(&self, worker_type: &WorkerType) -> String {
        match &self.config.name {
            Some(name) => format!("worker `{name}` ({})", worker_type.path()),
            None => format!("worker {}", worker_type.path()),
        }
    }

    /// Checks what has been chosen, before anything is started.
    fn prepare(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
    ) -> Result<SpawnRequest, SpawnErrorKind> {
        let spawn_defaults = spawn_defaults().map_err(SpawnErrorKind::Startup)?;
        let mut spawn_defaults = spawn_defaults.ok_or(SpawnErrorKind::NotInitialized)?.clone();
        let (depth, limit) = (Role::depth(), spawn_defaults.settings.max_depth());
        if depth >= limit {
            return Err(SpawnErrorKind::TooDeep { depth, limit });
        }
        self.settings.map_or(Ok(()), |it| it.validate()).map_err(SpawnErrorKind::Settings)?;
        spawn_defaults.settings = spawn_defaults.settings_for(self.settings);
        self.config.environment.check(&RESERVED).map_err(|BadVariable { name, why }| {
            let variable = name.to_string_lossy().into_owned();
            SpawnErrorKind::Environment { variable, why: why.to_owned() }
        })?;
        let init =
            init(spawn_defaults.settings).map_err(|why| SpawnErrorKind::InitArgument { why })?;
        // The span that this is called in counts; without one, that in which the future is awaited.
        let on_failure = self.on_failure.map(in_this_span);
        Ok(SpawnRequest {
            config: self.config,
            spawn_defaults,
            worker_type,
            id: WorkerId::random(),
            init,
            on_failure,
        })
    }
}
