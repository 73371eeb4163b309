//! Arguments, functions and types with the names that generated code uses.

#[rpc_parallel::worker]
#[allow(clippy::too_many_arguments)]
pub trait Names {
    async fn call(
        &self,
        scope: String,
        __scope: u8,
        a0: &str,
        __a0: &[u8],
        __a1: Vec<u8>,
        client: u64,
        codec: u64,
        cx: u64,
    ) -> u64;
    fn function(&self, call: u64) -> Result<u64, String>;
    fn codecs(&self, function: u64);
    fn worker_trait(&self);
    fn new(&self);
    fn from(&self, into: u8) -> u8;
    async fn into_pipe(&self, into_pipe: rpc_parallel::Pipe<u8>, __a1: rpc_parallel::Pipe<u8>);
}

#[derive(Default, rpc_parallel::WorkerState)]
pub struct Worker;

#[rpc_parallel::worker]
impl Names for Worker {
    async fn call(
        &self,
        scope: String,
        __scope: u8,
        a0: &str,
        __a0: &[u8],
        __a1: Vec<u8>,
        client: u64,
        codec: u64,
        cx: u64,
    ) -> u64 {
        let _ = (scope, __scope, a0, __a0, __a1);
        client + codec + cx
    }
    fn function(&self, call: u64) -> Result<u64, String> {
        Ok(call)
    }
    fn codecs(&self, _function: u64) {}
    fn worker_trait(&self) {}
    fn new(&self) {}
    fn from(&self, into: u8) -> u8 {
        into
    }
    async fn into_pipe(&self, _: rpc_parallel::Pipe<u8>, _: rpc_parallel::Pipe<u8>) {}
}

pub fn calls(client: &NamesClient) {
    drop(client.call(String::new(), 0, "", &[], vec![], 1, 2, 3));
    drop(client.function(1));
    drop(client.worker_trait());
    let _ = (NamesClient::CALL, NamesClient::FUNCTION, NamesClient::CODECS, NamesClient::NEW);
    let _ = NamesClient::WORKER_TRAIT;
}

#[rpc_parallel::entry]
fn main() {}
