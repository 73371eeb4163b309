//! Where a worker can be reached, for programs that know no more of it than a protocol.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::connect_error::ConnectError;
use super::connecting::{ask_for, connect_to, encode_init, introduce, no_failure_lookup, open};
use crate::wire::{Message, Settings, WorkerId, WorkerLabel};
use crate::worker::WorkerClient;

/// Where a worker server can be reached: plain data, for other programs.
///
/// A [`Worker<S>`](super::Worker) is for those who know its type; for a program that only speaks a
/// protocol there is its [`address`](super::Worker::address). The protocol is a worker trait of
/// that program's own whose functions have the same fixed ids and the same types:
///
/// ```text
/// // in one program
/// #[rpc_parallel::worker]
/// trait Exchange {
///     #[worker(id = "quotes.v2")]
///     async fn quote(&self, name: &str) -> Option<Quote>;
/// }
/// let settings = Settings::default().with_other_builds(true);
/// let exchange = Nasdaq::spawner().settings(settings).start(()).await?;
/// fs::write("exchange.json", serde_json::to_string(&exchange.address()?)?)?;
///
/// // in another one
/// #[rpc_parallel::worker]
/// trait Prices {
///     #[worker(id = "quotes.v2")]
///     async fn price(&self, of: String) -> Option<Quote>;
/// }
/// let address: WorkerAddress = serde_json::from_str(&fs::read_to_string("exchange.json")?)?;
/// let prices: PricesClient = address.connect(()).await?;
/// ```
///
/// The id stands for the protocol and its version. When the connection is opened, the types that
/// travel are compared as they are written, without their modules; arguments may be given by value
/// or by reference. Where they differ the error names both. That types of the same name have the
/// same fields nobody can compare: give a changed type's functions another id.
///
/// An address keeps nothing alive. It leads to this one worker, for as long as that takes
/// connections, and never to another; only processes of the same user reach it. The worker must
/// have been started with [`with_other_builds`](Settings::with_other_builds).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerAddress {
    pub(super) id: WorkerId,
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) path: PathBuf,
}

impl WorkerAddress {
    /// Opens a connection to the worker. `init` is for the state of the connection, and must be of
    /// the type that the worker expects; `()` where there is none.
    ///
    /// Functions of `C` that the worker lacks are no error until they are called.
    ///
    /// # Errors
    ///
    /// The worker has ended, has closed its server, or is out of reach of this process; its settings
    /// let no other program connect ([`OtherBuild`](super::ConnectErrorKind::OtherBuild)); the types
    /// of a function differ ([`OtherTypes`](super::ConnectErrorKind::OtherTypes)); or the
    /// connection's `init` failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect<C: WorkerClient>(&self, init: impl Message) -> Result<C, ConnectError> {
        let asked = introduce(C::WORKER_TRAIT.functions).and_then(|mut words| {
            words.extend(ask_for(self.id, encode_init(&init, self.settings), self.settings)?);
            Ok(words)
        });
        let connected = async {
            let ask = asked?;
            let socket = connect_to(&self.path, self.settings).await?;
            let whom = (self.id, self.label.clone());
            open(socket, self.settings, whom, &ask, no_failure_lookup()).await
        };
        match connected.await {
            Ok(client) => Ok(C::from_client(client)),
            Err(kind) => Err(ConnectError::new(self.label.clone(), kind)),
        }
    }

    /// Returns the id of the worker.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Returns the name, type and process of the worker.
    #[must_use]
    pub fn label(&self) -> &WorkerLabel {
        &self.label
    }

    /// Returns the settings of the worker, which its connections share.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns the Unix socket where the worker listens.
    ///
    /// It stands in no directory: the path is `/proc/PID/fd/N`, of a descriptor that the worker's
    /// master holds, or this process if it serves the worker itself. It is gone with that process,
    /// and means nothing on another host or in a container with processes of its own.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for WorkerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.label, self.path.display())
    }
}
