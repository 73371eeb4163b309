//! The worker type of process functions, which `#[worker]` cannot write: its functions are those that
//! `#[process]` registers.

use super::declares::{NoFunctions, WorkerClient};
use super::dispatch::{Dispatch, Table};
use super::processes::Processes;
use super::registration::process_functions::{handles, infos};
use super::state::OneWorkerTraitPerType;
use super::worker_type::WorkerType;
use crate::connection::Client;
use crate::wire::{FunctionInfo, SourceLocation, WorkerTrait};

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

// Otherwise rustc names this type in errors about types of the user.
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
