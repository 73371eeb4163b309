//! Three hundred functions in another process.

#![allow(
    dead_code,
    reason = "the program calls one function, and warnings about the others would be timed too"
)]

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
pub trait Functions {
    // repeat
    async fn sum_0000(&self, x: u64, y: u64) -> u64;
    async fn text_0000(&self, text: String) -> String;
    async fn list_0000(&self, xs: Vec<u64>) -> Option<u64>;
    // end
}

#[derive(Default, WorkerState)]
struct FunctionsWorker;

#[rpc_parallel::worker]
impl Functions for FunctionsWorker {
    // repeat
    async fn sum_0000(&self, x: u64, y: u64) -> u64 {
        x + y
    }
    async fn text_0000(&self, text: String) -> String {
        format!("hello, {text}")
    }
    async fn list_0000(&self, xs: Vec<u64>) -> Option<u64> {
        xs.into_iter().max()
    }
    // end
}

#[rpc_parallel::entry]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = FunctionsWorker::spawn(()).await?;
    println!("{}", client.text_0000("world".into()).await?);
    Ok(())
}
