//! Three hundred functions in another process, by hand: one number per function, and a `match`.

#![allow(
    dead_code,
    reason = "the program calls one function, and warnings about the others would be timed too"
)]

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

// repeat
const SUM_0000: u16 = 3 * 0000;
const TEXT_0000: u16 = 3 * 0000 + 1;
const LIST_0000: u16 = 3 * 0000 + 2;
// end

// repeat
async fn sum_0000(x: u64, y: u64) -> u64 {
    x + y
}
async fn text_0000(text: String) -> String {
    format!("hello, {text}")
}
async fn list_0000(xs: Vec<u64>) -> Option<u64> {
    xs.into_iter().max()
}
// end

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
    let mut client = Client {
        socket: UnixStream::from_std(ours)?,
    };
    println!("{}", client.text_0000("world".into()).await?);
    drop(client);
    worker.wait()?;
    Ok(())
}

struct Client {
    socket: UnixStream,
}

impl Client {
    // repeat
    async fn sum_0000(&mut self, x: u64, y: u64) -> Result<u64, Box<dyn Error>> {
        self.call(SUM_0000, &(x, y)).await
    }
    async fn text_0000(&mut self, text: String) -> Result<String, Box<dyn Error>> {
        self.call(TEXT_0000, &(text,)).await
    }
    async fn list_0000(&mut self, xs: Vec<u64>) -> Result<Option<u64>, Box<dyn Error>> {
        self.call(LIST_0000, &(xs,)).await
    }
    // end

    async fn call<I: Serialize, O: DeserializeOwned>(
        &mut self,
        function: u16,
        input: &I,
    ) -> Result<O, Box<dyn Error>> {
        self.socket.write_u16(function).await?;
        send(&mut self.socket, &rmp_serde::to_vec(input)?).await?;
        Ok(rmp_serde::from_slice(&receive(&mut self.socket).await?)?)
    }
}

async fn worker() -> Result<(), Box<dyn Error>> {
    let socket = net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    while let Ok(function) = socket.read_u16().await {
        let input = receive(&mut socket).await?;
        send(&mut socket, &answer(function, &input).await?).await?;
    }
    Ok(())
}

async fn answer(function: u16, input: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(match function {
        // repeat
        SUM_0000 => {
            let (x, y) = rmp_serde::from_slice(input)?;
            rmp_serde::to_vec(&sum_0000(x, y).await)?
        }
        TEXT_0000 => {
            let (text,) = rmp_serde::from_slice(input)?;
            rmp_serde::to_vec(&text_0000(text).await)?
        }
        LIST_0000 => {
            let (xs,) = rmp_serde::from_slice(input)?;
            rmp_serde::to_vec(&list_0000(xs).await)?
        }
        // end
        _ => return Err("no such function".into()),
    })
}

async fn send(socket: &mut UnixStream, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    socket.write_u32(bytes.len().try_into()?).await?;
    socket.write_all(bytes).await?;
    Ok(())
}

async fn receive(socket: &mut UnixStream) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = vec![0; socket.read_u32().await?.try_into()?];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}
