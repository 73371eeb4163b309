//! Numbers and bytes that are asked for in sixteen bytes, and then fill the socket.

use std::io::ErrorKind;
use std::os::unix::net;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::carrier::Carrier;
use crate::conversation::Conversation;
use crate::role::Role;
use crate::streamer::{Streamer, Way};
use crate::worker_process::{self, WorkerProcess};

/// What is read and written at once where the whole need not be in memory.
const BLOCK: usize = 64 * 1024;
const NUMBER: usize = size_of::<u64>();

/// What the worker is asked to do, with a count.
#[derive(Clone, Copy)]
enum Request {
    /// Send the numbers below the count.
    Send,
    /// Take the numbers below the count, and answer their sum.
    Sum,
    /// Take so many bytes into one buffer, and answer how many.
    Carry,
}

impl Request {
    fn numbered(number: u64) -> anyhow::Result<Self> {
        [Self::Send, Self::Sum, Self::Carry]
            .into_iter()
            .find(|it| *it as u64 == number)
            .with_context(|| format!("asked for {number}, which is nothing"))
    }
}

/// Asks a worker for numbers, or has it take them.
pub(crate) struct FloorRequests {
    socket: UnixStream,
    process: WorkerProcess,
}

impl FloorRequests {
    async fn ask(&mut self, request: Request, count: u64) -> anyhow::Result<()> {
        let mut words = [0; 2 * NUMBER];
        words[..NUMBER].copy_from_slice(&(request as u64).to_le_bytes());
        words[NUMBER..].copy_from_slice(&count.to_le_bytes());
        Ok(self.socket.write_all(&words).await?)
    }

    async fn answer(&mut self) -> anyhow::Result<u64> {
        self.socket.read_u64_le().await.context("the floor's worker is gone")
    }
}

impl Conversation for FloorRequests {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Requests)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, process })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn end(self) -> anyhow::Result<()> {
        drop(self.socket);
        self.process.ended().await
    }
}

impl Streamer for FloorRequests {
    async fn sum(&mut self, way: Way, count: u64) -> anyhow::Result<u64> {
        match way {
            Way::Result | Way::Writer | Way::Callback => {
                self.ask(Request::Send, count).await?;
                sum(&mut self.socket, count).await
            }
            Way::Argument => {
                self.ask(Request::Sum, count).await?;
                send(&mut self.socket, count).await?;
                self.answer().await
            }
        }
    }
}

impl<Cargo: AsRef<[u8]> + Send> Carrier<Cargo> for FloorRequests {
    async fn carry(&mut self, cargo: Cargo) -> anyhow::Result<u64> {
        let cargo = cargo.as_ref();
        self.ask(Request::Carry, cargo.len() as u64).await?;
        self.socket.write_all(cargo).await?;
        self.answer().await
    }
}

/// The worker: does as asked, one request after the other, with one buffer for all bytes.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    // The work is a spawned task, as it is in the others.
    tokio::spawn(async move {
        let mut buffer = Vec::new();
        loop {
            let number = match socket.read_u64_le().await {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                number => number?,
            };
            let count = socket.read_u64_le().await?;
            match Request::numbered(number)? {
                Request::Send => send(&mut socket, count).await?,
                Request::Sum => {
                    let sum = sum(&mut socket, count).await?;
                    socket.write_u64_le(sum).await?;
                }
                Request::Carry => {
                    buffer.resize(usize::try_from(count)?, 0);
                    socket.read_exact(&mut buffer).await?;
                    socket.write_u64_le(count).await?;
                }
            }
        }
    })
    .await?
}

/// Writes the numbers below `count`, eight bytes each.
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
    // Part of a number may be left over from the read before.
    let mut filled = 0;
    while left > 0 {
        let read = socket.read(&mut block[filled..]).await?;
        ensure!(read > 0, "the other end is gone");
        left = left.checked_sub(read).context("more came than was asked for")?;
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
