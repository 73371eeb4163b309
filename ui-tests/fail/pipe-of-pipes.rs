use rpc_parallel::{Pipe, PipeWriter};

#[rpc_parallel::worker]
pub trait Feeds {
    async fn feeds(&self) -> Pipe<Pipe<u64>>;
    async fn merge(&self, feeds: Pipe<(String, Pipe<u64>)>) -> u64;
    async fn serve(&self, requests: Pipe<Option<PipeWriter<u64>>>);
}

fn main() {}
