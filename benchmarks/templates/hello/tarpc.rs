//! A greeting from another process, with tarpc.

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
trait Hello {
    async fn hello(name: String) -> String;
}

#[derive(Clone)]
struct Greeter;

impl Hello for Greeter {
    async fn hello(self, _: context::Context, name: String) -> String {
        format!("hello, {name}")
    }
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
    let new = HelloClient::new(client::Config::default(), transport);
    let dispatch = tokio::spawn(new.dispatch);
    let client = new.client;
    println!(
        "{}",
        client.hello(context::current(), "world".into()).await?
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
        .execute(Greeter.serve())
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
    Ok(())
}
