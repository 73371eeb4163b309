//! Types with the names of our pipes, which differ in their type arguments.

#![deny(warnings)]

use serde::{Deserialize, Serialize};

/// A water pipe.
#[derive(Serialize, Deserialize)]
pub struct Pipe(pub u64);

/// An organ pipe.
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
