//! A greeting from another process, by hand.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::process::Command;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

#[derive(Serialize, Deserialize)]
enum Call {
    Hello { name: String },
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Hello(String),
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
    let mut socket = UnixStream::from_std(ours)?;
    send(
        &mut socket,
        &Call::Hello {
            name: "world".into(),
        },
    )
    .await?;
    match receive(&mut socket).await? {
        Some(Answer::Hello(greeting)) => println!("{greeting}"),
        None => return Err("the worker has exited".into()),
    }
    drop(socket);
    worker.wait()?;
    Ok(())
}

async fn worker() -> Result<(), Box<dyn Error>> {
    let socket = net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    while let Some(call) = receive(&mut socket).await? {
        let answer = match call {
            Call::Hello { name } => Answer::Hello(format!("hello, {name}")),
        };
        send(&mut socket, &answer).await?;
    }
    Ok(())
}

async fn send<M: Serialize>(socket: &mut UnixStream, message: &M) -> Result<(), Box<dyn Error>> {
    let bytes = rmp_serde::to_vec_named(message)?;
    socket.write_u32(bytes.len().try_into()?).await?;
    socket.write_all(&bytes).await?;
    Ok(())
}

async fn receive<M: DeserializeOwned>(
    socket: &mut UnixStream,
) -> Result<Option<M>, Box<dyn Error>> {
    let Ok(length) = socket.read_u32().await else {
        return Ok(None);
    };
    let mut bytes = vec![0; length.try_into()?];
    socket.read_exact(&mut bytes).await?;
    Ok(Some(rmp_serde::from_slice(&bytes)?))
}
