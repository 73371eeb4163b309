use rpc_parallel::{Pipe, PipeWriter};

#[rpc_parallel::worker]
pub trait Feed {
    async fn ticks(&self) -> PipeWriter<u64>;
    fn both(&self) -> (PipeWriter<u64>, Pipe<u64>);
    async fn perhaps(&self) -> Result<Option<rpc_parallel::PipeWriter<u64>>, String>;
}

fn main() {}
