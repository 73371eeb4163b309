//! Functions under `#[cfg]`.

#[rpc_parallel::worker]
pub trait Reach {
    #[cfg(any())]
    fn never(&self, at: NoSuchType) -> NoSuchType;
    #[cfg(unix)]
    fn open(&self, descriptor: i32) -> i32;
    #[cfg(not(unix))]
    fn open(&self, handle: NoSuchType) -> u64;
    #[cfg_attr(all(), doc = "Always here.")]
    async fn always(&self);
}

#[derive(Default, rpc_parallel::WorkerState)]
pub struct Worker;

#[rpc_parallel::worker]
impl Reach for Worker {
    #[cfg(unix)]
    fn open(&self, descriptor: i32) -> i32 {
        descriptor
    }
    async fn always(&self) {}
}

pub fn calls(client: &ReachClient) {
    #[cfg(unix)]
    drop((client.open(1), ReachClient::OPEN));
    drop((client.always(), ReachClient::ALWAYS));
}

#[rpc_parallel::entry]
fn main() {}
