//! The options of a spawner, and the start of a worker with them.
//!
//! Nothing here depends on the type of the worker, so it is compiled once and not in each program.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::connecting::connect_request;
use super::expert::SETTINGS_VARIABLE;
use super::harness::spawn_defaults;
use super::in_runtime::require_runtime;
#[cfg(feature = "pool")]
use super::prepared_spawn::PreparedSpawn;
use super::restart_policy::RestartPolicy;
use super::restarting;
use super::spawn_error::{SpawnError, SpawnErrorKind};
use super::spawn_request::{OnFailure, SpawnRequest, in_current_span};
use crate::connection::Client;
use crate::launch::{BOOT_TOKEN_VARIABLE, BadVariable, Lifetime, Role, SpawnConfig, Started};
use crate::wire::{Settings, WorkerId};
use crate::worker::WorkerType;

/// The environment variables that a spawner must not set or remove, and why.
const RESERVED: [(&str, &str); 2] = [
    (BOOT_TOKEN_VARIABLE, "it is reserved"),
    (SETTINGS_VARIABLE, "masters read it, and workers do not; use `Spawner::settings`"),
];

/// What requires a tokio runtime.
const STARTING: &str = "starting a worker";

/// The options of a spawner.
#[derive(Clone, Default)]
pub(super) struct SpawnOptions {
    pub(super) config: SpawnConfig,
    pub(super) settings: Option<Settings>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) restart: RestartPolicy,
}

/// Encodes the argument of an `init` for a worker with these settings. The error is the text of the
/// encoder's error.
pub(crate) type EncodeInit<'a> = &'a dyn Fn(Settings) -> Result<Bytes, String>;

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
        let (label, policy) = (self.describe(worker_type), self.restart);
        let prepared = self.prepare_connected(worker_type, init, connection_init);
        Box::pin(async move {
            let spawned = async {
                let (mut spawn_request, connect_request) = prepared?;
                require_runtime(STARTING);
                spawn_request.on_failure = spawn_request.on_failure.map(in_current_span);
                restarting::spawn(spawn_request, connect_request, policy).await
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
        let (label, policy) = (self.describe(worker_type), self.restart);
        let prepared = self.prepare(worker_type, init);
        Box::pin(async move {
            let started = async {
                let mut spawn_request = prepared?;
                require_runtime(STARTING);
                spawn_request.on_failure = spawn_request.on_failure.map(in_current_span);
                let settings = spawn_request.spawn_defaults.settings;
                let started = restarting::start(spawn_request, lifetime, policy).await?;
                if lifetime == Lifetime::Detached {
                    // The last step: if this process ends before it, the worker ends as well.
                    started.detach();
                }
                Ok((started, settings))
            };
            started.await.map_err(|failure| SpawnError::new(label, failure))
        })
    }

    /// Makes the request for the start of a worker for a pool.
    #[cfg(feature = "pool")]
    pub(super) fn prepare_pooled(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
        connection_init: EncodeInit<'_>,
    ) -> Result<PreparedSpawn, SpawnError> {
        let label = self.describe(worker_type);
        match self.prepare_connected(worker_type, init, connection_init) {
            Ok((spawn_request, connect_request)) => {
                Ok(PreparedSpawn { spawn_request, connect_request, label })
            }
            Err(kind) => Err(SpawnError::new(label, kind.into())),
        }
    }

    /// Checks the options, and makes the requests for the start and for the first connection.
    fn prepare_connected(
        self,
        worker_type: &'static WorkerType,
        init: EncodeInit<'_>,
        connection_init: EncodeInit<'_>,
    ) -> Result<(SpawnRequest, Vec<u8>), SpawnErrorKind> {
        let spawn_request = self.prepare(worker_type, init)?;
        let settings = spawn_request.spawn_defaults.settings;
        let connect_request =
            connect_request(spawn_request.id, connection_init(settings), settings);
        Ok((spawn_request, connect_request.map_err(SpawnErrorKind::Connect)?))
    }

    /// Returns the worker's name and type, for errors.
    fn describe(&self, worker_type: &WorkerType) -> String {
        match &self.config.name {
            Some(name) => format!("worker `{name}` ({})", worker_type.path()),
            None => format!("worker {}", worker_type.path()),
        }
    }

    /// Checks the options, and makes the request for the start.
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
        // The callback runs in the span of this call, or without one in the span of the first poll.
        let on_failure = self.on_failure.map(in_current_span);
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
