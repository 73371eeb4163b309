//! Types that are called like ours, and are told apart by what stands in their brackets.

#![deny(warnings)]

use serde::{Deserialize, Serialize};

/// One in a wall.
#[derive(Serialize, Deserialize)]
pub struct Pipe(pub u64);

/// One that is played.
pub mod organ {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Pipe<T, const LENGTH: usize>(pub T);

    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct PipeWriter(pub String);
}

#[rpc_parallel::worker]
pub trait Plumbing {
    async fn lay(&self, pipe: Pipe, along: &Pipe) -> Pipe;
    fn play(&self, pipe: organ::Pipe<u8, 3>, more: &[organ::Pipe<u8, 4>]) -> organ::Pipe<u8, 3>;
    fn compose(&self, with: &organ::PipeWriter) -> organ::PipeWriter;
    async fn both(&self, pipe: Pipe, numbers: rpc_parallel::Pipe<u64>) -> u64;
}

#[derive(Default, rpc_parallel::WorkerState)]
pub struct Plumber;

#[rpc_parallel::worker]
impl Plumbing for Plumber {
    async fn lay(&self, pipe: Pipe, _: &Pipe) -> Pipe {
        pipe
    }
    fn play(&self, pipe: organ::Pipe<u8, 3>, _: &[organ::Pipe<u8, 4>]) -> organ::Pipe<u8, 3> {
        pipe
    }
    fn compose(&self, with: &organ::PipeWriter) -> organ::PipeWriter {
        organ::PipeWriter(with.0.clone())
    }
    async fn both(&self, pipe: Pipe, _: rpc_parallel::Pipe<u64>) -> u64 {
        pipe.0
    }
}

pub fn calls(client: &PlumbingClient) {
    drop(client.lay(Pipe(1), &Pipe(2)));
    drop(client.play(organ::Pipe(1), &[]));
    drop(client.compose(&organ::PipeWriter(String::new())));
    drop(client.both(Pipe(1), rpc_parallel::Pipe::from_items([1])));
}

#[rpc_parallel::entry]
fn main() {}
