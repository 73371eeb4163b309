//! Three hundred functions in another process, with tarpc.

#![allow(
    dead_code,
    reason = "the program calls one function, and warnings about the others would be timed too"
)]

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::process::Command;

use futures::StreamExt;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context, serde_transport};
use tokio::net::UnixStream;

#[tarpc::service]
trait Functions {
    // repeat
    async fn sum_0000(x: u64, y: u64) -> u64;
    async fn text_0000(text: String) -> String;
    async fn list_0000(xs: Vec<u64>) -> Option<u64>;
    // end
}

#[derive(Clone)]
struct FunctionsWorker;

impl Functions for FunctionsWorker {
    // repeat
    async fn sum_0000(self, _: context::Context, x: u64, y: u64) -> u64 {
        x + y
    }
    async fn text_0000(self, _: context::Context, text: String) -> String {
        format!("hello, {text}")
    }
    async fn list_0000(self, _: context::Context, xs: Vec<u64>) -> Option<u64> {
        xs.into_iter().max()
    }
    // end
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match std::env::args().nth(1) {
        Some(_) => runtime.block_on(worker()),
        None => runtime.block_on(master()),
    }
}

async fn master() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = net::UnixStream::pair()?;
    let mut worker = Command::new("/proc/self/exe")
        .arg("worker")
        .stdin(OwnedFd::from(theirs))
        .spawn()?;
    ours.set_nonblocking(true)?;
    let transport =
        serde_transport::Transport::from((UnixStream::from_std(ours)?, Bincode::default()));
    let new = FunctionsClient::new(client::Config::default(), transport);
    let dispatch = tokio::spawn(new.dispatch);
    let client = new.client;
    println!(
        "{}",
        client.text_0000(context::current(), "world".into()).await?
    );
    drop(client);
    dispatch.await??;
    worker.wait()?;
    Ok(())
}

async fn worker() -> Result<(), Box<dyn Error>> {
    let socket = net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let transport =
        serde_transport::Transport::from((UnixStream::from_std(socket)?, Bincode::default()));
    BaseChannel::with_defaults(transport)
        .execute(FunctionsWorker.serve())
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
    Ok(())
}
