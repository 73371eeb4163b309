//! The address of a worker, for programs that share its protocol and not its type.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::connect_error::ConnectError;
use super::connecting::{connect_request, encode_init, introduction, open};
use super::in_runtime::require_runtime;
use super::listener_address::ListenerAddress;
use crate::connection::ProcessAccess;
use crate::wire::{Message, Settings, WorkerId, WorkerLabel};
use crate::worker::WorkerClient;

/// The address of a worker server: plain data, for processes of other programs.
///
/// A [`Worker<S>`](super::Worker) handle is for programs that have the type `S`. An address, which
/// [`Worker::address`](super::Worker::address) returns, is for programs that only share the
/// protocol: they declare a worker trait of their own, whose functions have the same fixed ids and
/// the same types. The worker must have been started with
/// [`with_other_builds`](Settings::with_other_builds).
///
/// One program starts the worker and stores its address, in any serde format:
///
/// ```no_run,standalone_crate
/// # use rpc_parallel::BoxError;
/// # use serde::{Deserialize, Serialize};
/// use rpc_parallel::prelude::*;
/// use rpc_parallel::Settings;
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Quote { cents: u64 }
/// #[rpc_parallel::worker]
/// trait Exchange {
///     #[worker(id = "quotes.v2")]
///     async fn quote(&self, name: &str) -> Option<Quote>;
/// }
/// # #[derive(Default, WorkerState)]
/// # struct Nasdaq;
/// # #[rpc_parallel::worker]
/// # impl Exchange for Nasdaq {
/// #     async fn quote(&self, _name: &str) -> Option<Quote> { None }
/// # }
/// # async fn example() -> Result<(), BoxError> {
/// let settings = Settings::default().with_other_builds(true);
/// let exchange = Nasdaq::spawner().settings(settings).start(()).await?;
/// std::fs::write("exchange.address", rmp_serde::to_vec(&exchange.address()?)?)?;
/// # Ok(())
/// # }
/// ```
///
/// Another program reads the address and connects:
///
/// ```no_run,standalone_crate
/// # use rpc_parallel::BoxError;
/// # use serde::{Deserialize, Serialize};
/// use rpc_parallel::expert::WorkerAddress;
/// use rpc_parallel::prelude::*;
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Quote { cents: u64 }
/// #[rpc_parallel::worker]
/// trait Prices {
///     #[worker(id = "quotes.v2")]
///     async fn price(&self, of: String) -> Option<Quote>;
/// }
/// # async fn example() -> Result<(), BoxError> {
/// let address: WorkerAddress = rmp_serde::from_slice(&std::fs::read("exchange.address")?)?;
/// let prices: PricesClient = address.connect(()).await?;
/// let quote = prices.price("ACME".to_owned()).await?;
/// # Ok(())
/// # }
/// ```
///
/// A fixed id identifies a function and the version of its types. When a connection is opened, the
/// worker compares its types of each function with those of the connecting program, as they are
/// written in the source, without module paths. An argument may be passed by value in one program
/// and by reference in the other. If the types differ, connecting fails and the error names both.
/// The fields of a type are not compared: if they change, give the functions that use the type
/// another id.
///
/// An address does not keep its worker alive. It identifies one worker: when that worker no longer
/// accepts connections, connecting fails. Only processes of the same user can connect.
///
/// The serialised form contains the version of its format, so a later version of this crate reads or
/// refuses stored addresses by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct WorkerAddress {
    pub(super) id: WorkerId,
    pub(super) label: WorkerLabel,
    pub(super) settings: Settings,
    pub(super) listener: ListenerAddress,
}

/// The serialised form of an address.
#[derive(Serialize, Deserialize)]
enum Stored {
    #[serde(rename = "version 1")]
    Version1 { id: WorkerId, label: WorkerLabel, settings: Settings, listener: ListenerAddress },
}

impl From<WorkerAddress> for Stored {
    fn from(address: WorkerAddress) -> Self {
        let WorkerAddress { id, label, settings, listener } = address;
        Self::Version1 { id, label, settings, listener }
    }
}

impl From<Stored> for WorkerAddress {
    fn from(stored: Stored) -> Self {
        let Stored::Version1 { id, label, settings, listener } = stored;
        Self { id, label, settings, listener }
    }
}

impl WorkerAddress {
    /// Opens a connection to the worker.
    ///
    /// `init` is the argument of the connection state's `init`. It must have the type that the
    /// worker expects, which is `()` if there is no connection state.
    ///
    /// Connecting does not check that the worker has all functions of `C`. Calling a function that
    /// it does not have fails.
    ///
    /// # Errors
    ///
    /// - [`NoSuchWorker`](super::ConnectErrorKind::NoSuchWorker): the worker has ended, or its
    ///   server was closed.
    /// - [`Unreachable`](super::ConnectErrorKind::Unreachable) or
    ///   [`TimedOut`](super::ConnectErrorKind::TimedOut): this process cannot reach the worker, or
    ///   the worker did not answer.
    /// - [`OtherBuild`](super::ConnectErrorKind::OtherBuild): the settings of the worker do not
    ///   allow other programs.
    /// - [`OtherTypes`](super::ConnectErrorKind::OtherTypes): the types of a function differ.
    /// - [`Init`](super::ConnectErrorKind::Init),
    ///   [`InitPanicked`](super::ConnectErrorKind::InitPanicked) or
    ///   [`InitArgument`](super::ConnectErrorKind::InitArgument): the `init` of the connection
    ///   state failed, or its argument could not be encoded or decoded.
    ///
    /// # Panics
    ///
    /// Polling the future panics outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect<C: WorkerClient>(&self, init: impl Message) -> Result<C, ConnectError> {
        require_runtime("connecting to a worker");
        let init = encode_init(&init, self.settings);
        let frames = introduction(C::functions()).and_then(|mut frames| {
            frames.extend(connect_request(self.id, init, self.settings)?);
            Ok(frames)
        });
        let connected = async {
            let frames = frames?;
            let halves = self.listener.dial(&self.label, self.settings).await?;
            let worker = (self.id, self.label.clone());
            open(halves, self.settings, worker, &frames, ProcessAccess::none()).await
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

    /// Returns the settings of the worker when the address was made, which its connections use.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns where the worker accepts connections.
    #[must_use]
    pub fn listener(&self) -> &ListenerAddress {
        &self.listener
    }
}

impl fmt::Display for WorkerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.label, self.listener)
    }
}
