//! Handles: plain data that leads to a worker, from any process.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::address::WorkerAddress;
use super::connect_error::{ConnectError, ConnectErrorKind};
use super::connecting::{ask_for, connect_to, encode_init, open, unreachable};
#[cfg(feature = "tracing")]
use super::control::ask_for_logs;
use super::control::ask_for_stats;
use super::control_error::ControlError;
use super::failure_source::FailureSource;
use super::restarting::Restarted;
use super::route::Route;
use super::serving;
use super::shutdown::Shutdown;
use crate::launch::Children;
use crate::transport::connected_pair;
use crate::wire::{Settings, WorkerId, WorkerLabel, WorkerTypeId};
#[cfg(feature = "tracing")]
use crate::worker::logs::Logs;
use crate::worker::{ConnectionState, OneWorkerTraitPerType, Served, WorkerClient, WorkerStats};

/// Identifies a worker server of type `S`.
///
/// It is plain data: print it, compare it, send it to another worker. Whoever holds it can
/// [`connect`](Self::connect). It keeps nothing alive, and a stale one never leads to another
/// worker.
pub struct Worker<S> {
    id: WorkerId,
    label: WorkerLabel,
    settings: Settings,
    path: Option<PathBuf>,
    of: PhantomData<fn() -> S>,
}

type ConnectionInit<S> =
    <<<S as OneWorkerTraitPerType>::Client as WorkerClient>::Connection as ConnectionState<S>>::Init;

impl<S> Worker<S> {
    pub(super) fn new(
        id: WorkerId,
        label: WorkerLabel,
        settings: Settings,
        path: Option<PathBuf>,
    ) -> Self {
        Self { id, label, settings, path, of: PhantomData }
    }

    /// Returns the id of the worker.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Returns the name that the worker was given.
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Returns the name, type and process of the worker.
    pub fn label(&self) -> &WorkerLabel {
        &self.label
    }

    /// Returns the settings of the worker, which its connections share.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Finds out where other processes can reach the worker, and has it listen there.
    ///
    /// A handle does so by itself when it is sent; this is for programs that do not know its type.
    ///
    /// # Errors
    ///
    /// The worker has ended, or cannot listen.
    pub fn address(&self) -> io::Result<WorkerAddress> {
        let Self { id, label, settings, .. } = self;
        let path = self.path()?;
        let restarted = Restarted::find(*id).and_then(|it| it.label());
        let label = restarted.unwrap_or_else(|| label.clone());
        Ok(WorkerAddress { id: *id, label, settings: *settings, path })
    }

    /// Ends the worker in order and waits until its process is gone. Any process that holds the
    /// handle can do this.
    ///
    /// # Errors
    ///
    /// The end was not orderly, see [`Shutdown`](Shutdown#errors).
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.route_to_process())
    }

    /// Asks how the worker's process is doing. Any process that holds the handle can do this.
    ///
    /// The process that has started the worker is answered also while functions compute; others
    /// wait until the worker takes connections.
    ///
    /// # Errors
    ///
    /// The worker has died, or cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn stats(&self) -> impl Future<Output = Result<WorkerStats, ControlError>> + Send + use<S> {
        ask_for_stats(self.route_to_process())
    }

    /// Asks for what the worker's process logs, from the worker's `init` on.
    ///
    /// A worker keeps its logs if the program says `worker_logs = true`, see
    /// [`Master::worker_logs`](crate::Master::worker_logs), or if its own subscriber contains
    /// [`logs::layer`](crate::logs::layer). The logs of others hold one warning that says so. Any process that holds
    /// the handle can do this.
    ///
    /// # Errors
    ///
    /// The worker has died, or cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    #[cfg(feature = "tracing")]
    pub fn logs(&self) -> impl Future<Output = Result<Logs, ControlError>> + Send + use<S> {
        ask_for_logs(self.route_to_process())
    }

    fn route_to_process(&self) -> Route {
        let Self { id, label, settings, path, .. } = self.clone();
        Route { id, label, settings, path, client: None }
    }

    fn path(&self) -> io::Result<PathBuf> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let ended = || io::Error::new(io::ErrorKind::NotFound, format!("{} has ended", self.label));
        if let Some(restarted) = Restarted::find(self.id) {
            return restarted.listen(self.id)?.ok_or_else(ended);
        }
        if let Some(started) = Children::get().find(self.id) {
            // Nobody may have noticed its end yet.
            return started.listen().map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ended(),
                _ => error,
            });
        }
        serving::listen(self.id, self.settings)?.ok_or_else(ended)
    }
}

impl<S: Served> Worker<S> {
    /// Opens a connection to the worker.
    ///
    /// The client can be cloned; each call of this function makes a connection of its own, with a
    /// connection state of its own.
    ///
    /// # Errors
    ///
    /// The worker has ended or cannot be reached, or the connection's `init` failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(&self, init: ConnectionInit<S>) -> Result<S::Client, ConnectError> {
        let ask = ask_for(self.id, encode_init(&init, self.settings), self.settings);
        let connected = async {
            let ask = ask?;
            if let Some(restarted) = Restarted::find(self.id) {
                let client = restarted.connect(ask, self.settings).await?;
                return Ok(S::Client::from_client(client));
            }
            if let Some(failure) = Children::get().find_dead(self.id) {
                return Err(ConnectErrorKind::WorkerDied(failure));
            }
            let (socket, failure_source) = self.route().await?;
            let whom = (self.id, self.label.clone());
            let client =
                open(socket, self.settings, whom, &ask, failure_source.failure_lookup()).await?;
            failure_source.note_caller(client.in_flight());
            Ok(S::Client::from_client(client))
        };
        connected.await.map_err(|kind| ConnectError::new(self.label.clone(), kind))
    }

    /// Makes a socket whose other end the worker serves.
    async fn route(&self) -> Result<(UnixStream, FailureSource), ConnectErrorKind> {
        if let Some(reached) = serving::route(self.id, self.settings).map_err(unreachable)? {
            return Ok(reached);
        }
        if let Some(started) = Children::get().find(self.id) {
            let handed_over = connected_pair().and_then(|(ours, theirs)| {
                started.hand_over(theirs)?;
                Ok(ours)
            });
            return match handed_over {
                Ok(ours) => Ok((ours, FailureSource::Process(started))),
                // It has ended, and is not forgotten yet.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    Err(match started.failure().await {
                        Some(failure) => ConnectErrorKind::WorkerDied(failure),
                        None => unreachable(error),
                    })
                }
                Err(error) => Err(unreachable(error)),
            };
        }
        match &self.path {
            Some(path) => {
                let socket = connect_to(path, self.settings).await?;
                Ok((socket, FailureSource::Unknown))
            }
            None => Err(ConnectErrorKind::NoSuchWorker),
        }
    }
}

impl<S: Served> Serialize for Worker<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let address = self.address().map_err(ser::Error::custom)?;
        (S::WORKER_TYPE.id(), address).serialize(serializer)
    }
}

impl<'de, S: Served> Deserialize<'de> for Worker<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (worker_type, address) = <(WorkerTypeId, WorkerAddress)>::deserialize(deserializer)?;
        if worker_type != S::WORKER_TYPE.id() {
            let expected = S::WORKER_TYPE.path();
            let why = format!("a handle of {} is none of {expected}", address.label);
            return Err(serde::de::Error::custom(why));
        }
        let WorkerAddress { id, label, settings, path } = address;
        Ok(Self { id, label, settings, path: Some(path), of: PhantomData })
    }
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        let Self { id, label, settings, path, of } = self;
        Self { id: *id, label: label.clone(), settings: *settings, path: path.clone(), of: *of }
    }
}

impl<S> PartialEq for Worker<S> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<S> Eq for Worker<S> {}

impl<S> PartialOrd for Worker<S> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for Worker<S> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl<S> Hash for Worker<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("label", &self.label.to_string())
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.label.fmt(f)
    }
}
