//! The worker type of process functions, which `#[worker]` cannot write: its functions are those that
//! `#[process]` registers.

use std::sync::Arc;

use super::context::{Context, ServerInfo};
use super::declares::{NoFunctions, WorkerClient};
use super::dispatch::{Dispatch, Scope, Table};
use super::registry::WorkerType;
use super::registry::process_functions::{handles, infos};
use super::state::{BoxError, OneWorkerTraitPerType, WorkerState};
use crate::connection::Client;
use crate::wire::{FunctionInfo, SourceLocation, WorkerTrait};

/// The worker type whose functions are the process functions of the program.
///
/// `score::run(..)` and `score::reuse()` start workers of this type. Its
/// [`Spawner`](crate::Spawner) configures their processes.
#[derive(Debug)]
pub struct Processes(());

/// The client of a worker that runs process functions.
///
/// It has the functions of [`WorkerClient`] and [`Control`](crate::Control). A
/// [`ProcessFunction`](crate::ProcessFunction) is called on it.
#[derive(Clone, Debug)]
pub struct ProcessClient(Client);

/// The place that errors and lists name. Programs know the facade only.
const PLACE: SourceLocation = SourceLocation {
    package: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    module: "rpc_parallel",
    file: file!(),
    line: line!(),
};

const TRAIT_NAME: &str = "ProcessFunctions";

const WORKER_TYPE: &WorkerType = &WorkerType::new::<Processes>("Processes", TRAIT_NAME, PLACE);

impl Processes {
    /// Makes the scope of a process function on any server.
    pub(super) fn scope(server: ServerInfo) -> Scope<Self, ()> {
        Scope::new(Arc::new(Self(())), Context::new((), server))
    }
}

// Otherwise rustc names this type in errors about types of the user.
#[diagnostic::do_not_recommend]
impl WorkerState for Processes {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self(()))
    }
}

#[diagnostic::do_not_recommend]
impl OneWorkerTraitPerType for Processes {
    type Itself = Self;
    type Client = ProcessClient;
    const WORKER_TYPE: &'static WorkerType = WORKER_TYPE;
}

impl WorkerClient for ProcessClient {
    type Connection = ();
    type OnHandle<H: 'static> = NoFunctions;
    const WORKER_TRAIT: WorkerTrait =
        WorkerTrait { name: TRAIT_NAME, place: PLACE, functions: &[] };

    fn functions() -> &'static [FunctionInfo] {
        infos()
    }

    fn from_client(client: Client) -> Self {
        Self(client)
    }

    fn client(&self) -> &Client {
        &self.0
    }
}

impl Dispatch<Processes> for ProcessClient {
    const TABLE: Table<Processes, Self> = &[];

    fn table() -> Table<Processes, Self> {
        handles()
    }
}
