//! The functions of the keeper, as all processes call them.
//!
//! `#[worker]` would write most of this file. The runtime does not use its own macros, so that they
//! are not compiled before it.

use std::time::Duration;

use bytes::Bytes;

use super::end::JobEnd;
use super::start_error::StartJobError;
use super::table::Gone;
use crate::connection::{Answer, Client, FunctionError, fallible};
use crate::wire::{Codec, FunctionInfo, SourceLocation, WorkerTrait, codec, own_codec};
use crate::worker::{Declares, NoFunctions, WorkerClient};

/// The client of the keeper.
#[derive(Clone)]
pub(super) struct KeeperClient(Client);

pub(super) const PLACE: SourceLocation = SourceLocation {
    package: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    module: "rpc_parallel",
    file: file!(),
    line: line!(),
};

pub(super) const TRAIT_NAME: &str = "Jobs";

impl WorkerClient for KeeperClient {
    type Connection = ();
    type OnHandle<H: 'static> = NoFunctions;
    const WORKER_TRAIT: WorkerTrait = WorkerTrait {
        name: TRAIT_NAME,
        place: PLACE,
        functions: &[
            <Self as Declares<Start>>::FUNCTION,
            <Self as Declares<Join>>::FUNCTION,
            <Self as Declares<TryJoin>>::FUNCTION,
            <Self as Declares<Detach>>::FUNCTION,
        ],
    };

    fn from_client(client: Client) -> Self {
        Self(client)
    }

    fn client(&self) -> &Client {
        &self.0
    }
}

/// Declares one function of the keeper, which returns a `Result`.
macro_rules! declare {
    (
        $(#[$doc:meta])* $key:ident = $name:literal($($argument:ty = $codec:expr),*)
            -> Result<$ok:ty, $error:ty>
    ) => {
        $(#[$doc])*
        pub(super) struct $key;

        impl Declares<$key> for KeeperClient {
            type Codecs = ($(Codec<$argument>,)*);
            type Returns = Result<$ok, $error>;
            type Output = $ok;
            type Error = FunctionError<$error>;

            const FUNCTION: FunctionInfo = FunctionInfo::new(
                $name,
                TRAIT_NAME,
                PLACE,
                stringify!($($argument),*),
                stringify!(Result<$ok, $error>),
            );
            const CODECS: Self::Codecs = ($($codec,)*);
            const ANSWER: Answer<Self::Returns, $ok, Self::Error> =
                fallible(own_codec(), own_codec());
        }
    };
}

declare! {
    /// Starts a process that calls the function with these encoded arguments, and returns the number
    /// of the job. The process is killed after the timeout, if there is one.
    Start = "start"(u64 = own_codec(), Bytes = codec(), Option<Duration> = own_codec())
        -> Result<u64, StartJobError>
}

declare! {
    /// Waits for the end of a job.
    Join = "join"(u64 = own_codec()) -> Result<JobEnd, Gone>
}

declare! {
    /// Returns the end of a job, or `None` if the job runs.
    TryJoin = "try_join"(u64 = own_codec()) -> Result<Option<JobEnd>, Gone>
}

declare! {
    /// Drops the result of a job.
    Detach = "detach"(u64 = own_codec()) -> Result<(), Gone>
}
