//! Those who are measured: floors, the program, its peers.

pub(crate) mod floor;
pub(crate) mod rpc_parallel;
pub(crate) mod tarpc;
pub(crate) mod remoc;
