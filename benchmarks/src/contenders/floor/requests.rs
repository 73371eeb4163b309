//! Numbers and bytes on request, as the floor of streams and large arguments. A request has 16
//! bytes.

use std::io::ErrorKind;
use std::os::unix::net;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::bulk_caller::BulkCaller;
use crate::number_streamer::{NumberStreamer, StreamKind};
use crate::role::Role;
use crate::worker_handle::WorkerHandle;
use crate::worker_process::{self, WorkerProcess};

/// The largest single read or write of data that need not be in memory as a whole, in bytes.
const BLOCK: usize = 64 * 1024;
const NUMBER: usize = size_of::<u64>();

/// What the worker does. A count follows in the request.
#[derive(Clone, Copy)]
enum Request {
    /// Sends the numbers below the count.
    Send,
    /// Receives the numbers below the count, and answers with their sum.
    Sum,
    /// Receives as many bytes as the count into one buffer, and answers with their number.
    Receive,
}

impl Request {
    fn from_number(number: u64) -> anyhow::Result<Self> {
        [Self::Send, Self::Sum, Self::Receive]
            .into_iter()
            .find(|it| *it as u64 == number)
            .with_context(|| format!("expected the number of a request, found {number}"))
    }
}

/// Sends requests to the worker.
pub(crate) struct FloorRequests {
    socket: UnixStream,
    process: WorkerProcess,
}

impl FloorRequests {
    async fn request(&mut self, request: Request, count: u64) -> anyhow::Result<()> {
        let mut words = [0; 2 * NUMBER];
        words[..NUMBER].copy_from_slice(&(request as u64).to_le_bytes());
        words[NUMBER..].copy_from_slice(&count.to_le_bytes());
        Ok(self.socket.write_all(&words).await?)
    }

    async fn receive_answer(&mut self) -> anyhow::Result<u64> {
        self.socket.read_u64_le().await.context("the floor's worker has exited")
    }
}

impl WorkerHandle for FloorRequests {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Requests)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, process })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.socket);
        self.process.exited().await
    }
}

impl NumberStreamer for FloorRequests {
    async fn sum(&mut self, kind: StreamKind, count: u64) -> anyhow::Result<u64> {
        match kind {
            StreamKind::Result | StreamKind::Writer | StreamKind::Callback => {
                self.request(Request::Send, count).await?;
                sum(&mut self.socket, count).await
            }
            StreamKind::Argument => {
                self.request(Request::Sum, count).await?;
                send(&mut self.socket, count).await?;
                self.receive_answer().await
            }
        }
    }
}

impl<Argument: AsRef<[u8]> + Send> BulkCaller<Argument> for FloorRequests {
    async fn call_with(&mut self, argument: Argument) -> anyhow::Result<u64> {
        let argument = argument.as_ref();
        self.request(Request::Receive, argument.len() as u64).await?;
        self.socket.write_all(argument).await?;
        self.receive_answer().await
    }
}

/// Runs as the worker: executes requests sequentially, with one buffer for all bytes.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    // A spawned task, as in the other contenders.
    tokio::spawn(async move {
        let mut buffer = Vec::new();
        loop {
            let number = match socket.read_u64_le().await {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                number => number?,
            };
            let count = socket.read_u64_le().await?;
            match Request::from_number(number)? {
                Request::Send => send(&mut socket, count).await?,
                Request::Sum => {
                    let sum = sum(&mut socket, count).await?;
                    socket.write_u64_le(sum).await?;
                }
                Request::Receive => {
                    buffer.resize(usize::try_from(count)?, 0);
                    socket.read_exact(&mut buffer).await?;
                    socket.write_u64_le(count).await?;
                }
            }
        }
    })
    .await?
}

/// Writes the numbers below `count`, 8 bytes each.
async fn send(socket: &mut UnixStream, count: u64) -> anyhow::Result<()> {
    let mut block = [0; BLOCK];
    let mut numbers = 0..count;
    loop {
        let mut filled = 0;
        for (slot, number) in block.chunks_exact_mut(NUMBER).zip(&mut numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
            filled += NUMBER;
        }
        if filled == 0 {
            return Ok(());
        }
        socket.write_all(&block[..filled]).await?;
    }
}

/// Reads `count` numbers and adds them up.
async fn sum(socket: &mut UnixStream, count: u64) -> anyhow::Result<u64> {
    let mut block = [0; BLOCK];
    let mut left = usize::try_from(count)? * NUMBER;
    let mut sum = 0;
    // The previous read may have ended within a number.
    let mut filled = 0;
    while left > 0 {
        let read = socket.read(&mut block[filled..]).await?;
        ensure!(read > 0, "the other end has closed the socket");
        left = left.checked_sub(read).context("received more than requested")?;
        filled += read;
        let whole = filled - filled % NUMBER;
        for number in block[..whole].chunks_exact(NUMBER) {
            sum += u64::from_le_bytes(number.try_into()?);
        }
        block.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(sum)
}
