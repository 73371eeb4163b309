use rpc_parallel::{Pipe, PipeWriter};

#[rpc_parallel::worker]
pub trait Feed {
    async fn total(&self, numbers: &Pipe<u64>) -> u64;
    async fn drain(&self, numbers: &mut Pipe<u64>);
    async fn render(&self, tiles: &'static PipeWriter<u64>);
    async fn merge(&self, all: &[(u8, rpc_parallel::Pipe<u64>)]);
    async fn right(&self, numbers: Pipe<u64>) -> u64;
}

pub async fn uses(client: FeedClient) {
    let _ = client.total(&Pipe::from_items([1, 2])).await;
    let _ = client.right(Pipe::from_items([1, 2])).await;
}

fn main() {}
