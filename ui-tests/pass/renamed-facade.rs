//! The crate under another name, given by each kind of path.

extern crate rpc_parallel as rp;

use rp::WorkerState as _;

/// Shadows the default name, so that generated code fails to compile if it uses that name.
#[allow(unused)]
mod rpc_parallel {}

mod inner {
    pub(crate) use ::rpc_parallel as renamed;
}

#[rp::worker(crate = rp)]
pub trait Work {
    async fn work(&self, cx: &rp::Context<()>, x: u64) -> Result<u64, String>;
}

#[derive(Default, rp::WorkerState)]
#[worker_state(crate = crate::inner::renamed)]
pub struct Worker;

#[rp::worker(crate = self::inner::renamed)]
impl Work for Worker {
    async fn work(&self, _: &rp::Context<()>, x: u64) -> Result<u64, String> {
        Ok(x)
    }
}

#[rp::entry(crate = ::rpc_parallel)]
async fn main() {
    let _ = Worker::init(());
}

#[rp::test(crate = rp)]
async fn works() {}
