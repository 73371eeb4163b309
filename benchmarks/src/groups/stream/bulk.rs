//! Sequential calls with large arguments.

use bytes::Bytes;

use crate::bulk_caller::{self, BulkCaller};
use crate::contenders::floor::requests::FloorRequests;
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::bulk::RpcParallelBulkCaller;
use crate::contenders::tarpc::bulk::TarpcBulkCaller;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL, TARPC};
use crate::runtime::{self, CallFrom};

const ARGUMENT_BYTES: usize = 64 << 20;
const CALLS: u32 = 8;

pub(super) fn figures() -> Vec<Figure> {
    vec![
        Figure::new("bulk.socket_64MiB", "GB/s")
            .contender(FLOOR, rate::<FloorRequests, Bytes>)
            .contender(RPC_PARALLEL, rate::<RpcParallelBulkCaller, Bytes>)
            .contender(TARPC, rate::<TarpcBulkCaller, Bytes>)
            .contender(REMOC, rate::<RemocPeer, Bytes>),
        Figure::new("bulk.vec_64MiB", "GB/s")
            .contender(FLOOR, rate::<FloorRequests, Vec<u8>>)
            .contender(RPC_PARALLEL, rate::<RpcParallelBulkCaller, Vec<u8>>)
            .contender(TARPC, rate::<TarpcBulkCaller, Vec<u8>>),
    ]
}

fn rate<C, Argument>() -> anyhow::Result<f64>
where
    C: BulkCaller<Argument>,
    Argument: From<Vec<u8>> + Clone + Send + Sync + 'static,
{
    let elapsed = runtime::run(
        CallFrom::SpawnedTask,
        bulk_caller::time_bulk_calls::<C, Argument>(ARGUMENT_BYTES, CALLS),
    )?;
    Ok(ARGUMENT_BYTES as f64 * f64::from(CALLS) / 1e9 / elapsed.as_secs_f64())
}
