//! A greeting from another process.

use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
pub trait Hello {
    async fn hello(&self, name: String) -> String;
}

#[derive(Default, WorkerState)]
struct Greeter;

#[rpc_parallel::worker]
impl Hello for Greeter {
    async fn hello(&self, name: String) -> String {
        format!("hello, {name}")
    }
}

#[rpc_parallel::entry]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Greeter::spawn(()).await?;
    println!("{}", client.hello("world".into()).await?);
    Ok(())
}
