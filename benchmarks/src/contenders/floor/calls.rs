//! Calls: frames of the length of ours, sent back.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::caller::Caller;
use crate::conversation::Conversation;
use crate::role::Role;
use crate::worker_process::{self, WorkerProcess};

/// As long as the frame of a small call or its answer.
pub(crate) const FRAME: usize = 26;
/// What the worker of the coalesced floor reads and writes at most at once.
pub(crate) const BULK: usize = 64 * 1024;

/// Takes turns with a worker, a frame each.
pub(crate) struct FloorCaller {
    socket: UnixStream,
    process: WorkerProcess,
}

impl Conversation for FloorCaller {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Echo)?;
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

impl Caller for FloorCaller {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        // Reading exactly a frame was measured against reading into a larger buffer, which saves
        // tokio a read that finds nothing: it is 4 % faster all the same.
        let mut frame = frame(x);
        self.socket.write_all(&frame).await?;
        self.socket.read_exact(&mut frame).await.context("the floor's worker is gone")?;
        number(&frame)
    }
}

/// Times `batches` of `frames` frames each: written at once, and back before the next.
pub(crate) async fn coalesced(frames: usize, batches: u64) -> anyhow::Result<Duration> {
    let (socket, process) = worker_process::start(Role::BulkEcho)?;
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    let batch = vec![7; frames * FRAME];
    let mut back = vec![0; batch.len()];
    take_turns(&mut socket, &batch, &mut back, batches / 10).await?;
    let begin = Instant::now();
    take_turns(&mut socket, &batch, &mut back, batches).await?;
    let elapsed = begin.elapsed();
    drop(socket);
    process.ended().await?;
    Ok(elapsed)
}

async fn take_turns(
    socket: &mut UnixStream,
    batch: &[u8],
    back: &mut [u8],
    batches: u64,
) -> anyhow::Result<()> {
    for _ in 0..batches {
        socket.write_all(batch).await?;
        socket.read_exact(back).await.context("the floor's worker is gone")?;
    }
    Ok(())
}

/// Times turns of one frame each, with blocking reads and writes at both ends.
pub(crate) fn blocking(calls: u64) -> anyhow::Result<Duration> {
    let (mut socket, process) = worker_process::start(Role::BlockingEcho)?;
    take_turns_blocking(&mut socket, calls / 10)?;
    let begin = Instant::now();
    take_turns_blocking(&mut socket, calls)?;
    let elapsed = begin.elapsed();
    drop(socket);
    process.wait()?;
    Ok(elapsed)
}

fn take_turns_blocking(socket: &mut net::UnixStream, calls: u64) -> anyhow::Result<()> {
    for x in 0..calls {
        let mut frame = frame(x);
        socket.write_all(&frame)?;
        socket.read_exact(&mut frame).context("the floor's worker is gone")?;
        ensure!(number(&frame)? == x, "the floor's worker mixed up its answers");
    }
    Ok(())
}

/// The worker: sends back what comes, at most `at_once` bytes at once.
pub(crate) async fn echo(socket: net::UnixStream, at_once: usize) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    // The work is a spawned task, as it is in the others.
    tokio::spawn(async move {
        let mut buffer = vec![0; at_once];
        loop {
            let count = socket.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            socket.write_all(&buffer[..count]).await?;
        }
    })
    .await?
}

/// The worker of the blocking floor.
pub(crate) fn echo_blocking(mut socket: net::UnixStream) -> anyhow::Result<()> {
    let mut frame = [0; FRAME];
    loop {
        match socket.read_exact(&mut frame) {
            Ok(()) => socket.write_all(&frame)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn frame(x: u64) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..8].copy_from_slice(&x.to_le_bytes());
    frame
}

fn number(frame: &[u8; FRAME]) -> anyhow::Result<u64> {
    let (number, _) = frame.split_first_chunk().context("a frame begins with its number")?;
    Ok(u64::from_le_bytes(*number))
}
