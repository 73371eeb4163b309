//! Large arguments, one after the other.

use bytes::Bytes;

use crate::carrier::{self, Carrier};
use crate::contenders::floor::requests::FloorRequests;
use crate::contenders::remoc::RemocPeer;
use crate::contenders::rpc_parallel::bulk::RpcParallelCarrier;
use crate::contenders::tarpc::bulk::TarpcCarrier;
use crate::figure::{FLOOR, Figure, REMOC, RPC_PARALLEL, TARPC};
use crate::place::{self, Place};

const CARGO: usize = 64 << 20;
const TIMES: u32 = 8;

pub(super) fn figures() -> Vec<Figure> {
    vec![
        Figure::new("bulk.socket_64MiB", "GB/s")
            .contender(FLOOR, rate::<FloorRequests, Bytes>)
            .contender(RPC_PARALLEL, rate::<RpcParallelCarrier, Bytes>)
            .contender(TARPC, rate::<TarpcCarrier, Bytes>)
            .contender(REMOC, rate::<RemocPeer, Bytes>),
        Figure::new("bulk.vec_64MiB", "GB/s")
            .contender(FLOOR, rate::<FloorRequests, Vec<u8>>)
            .contender(RPC_PARALLEL, rate::<RpcParallelCarrier, Vec<u8>>)
            .contender(TARPC, rate::<TarpcCarrier, Vec<u8>>),
    ]
}

fn rate<C, Cargo>() -> anyhow::Result<f64>
where
    C: Carrier<Cargo>,
    Cargo: From<Vec<u8>> + Clone + Send + Sync + 'static,
{
    let elapsed = place::run(Place::Task, carrier::carried::<C, Cargo>(CARGO, TIMES))?;
    Ok(CARGO as f64 * f64::from(TIMES) / 1e9 / elapsed.as_secs_f64())
}
