//! The contenders: floors, rpc-parallel, and peers.

pub(crate) mod floor;
pub(crate) mod rpc_parallel;
pub(crate) mod tarpc;
pub(crate) mod remoc;
pub(crate) mod rayon;
