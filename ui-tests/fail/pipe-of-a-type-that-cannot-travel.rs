use rpc_parallel::{Pipe, PipeWriter};

pub struct Tick(pub u64);

#[rpc_parallel::worker]
pub trait Feed {
    async fn ticks(&self) -> Pipe<Tick>;
}

#[rpc_parallel::worker]
pub trait ReverseFeed {
    async fn count(&self, name: &str, ticks: Pipe<Tick>) -> u64;
}

#[rpc_parallel::worker]
pub trait DirectFeed {
    async fn write(&self, ticks: PipeWriter<Tick>);
}

#[rpc_parallel::worker]
pub trait FallibleFeed {
    async fn try_ticks(&self) -> Result<Pipe<Tick>, String>;
}

#[rpc_parallel::worker]
pub trait Value {
    async fn watch(&self, key: &str) -> (u64, Pipe<Tick>);
}

fn main() {}
