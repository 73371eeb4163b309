use rpc_parallel::{Pipe, PipeWriter};

#[rpc_parallel::worker]
pub trait Feed {
    async fn total(&self, numbers: Pipe<u64>) -> u64;
    async fn render(&self, tiles: PipeWriter<u64>);
}

pub fn uses(client: &FeedClient) {
    drop(client.total(vec![1, 2, 3]));
    drop(client.total(Pipe::from_items(["one", "two"])));
    drop(client.render(Pipe::from_items([1, 2])));
}

fn main() {}
