//! A peer: remoc with its own codec over a Unix socket, a remote trait and its channels.

use std::os::unix::net;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use bytes::Bytes;
use remoc::rch::mpsc;
use remoc::rtc::{self, CallError, Client, ServerShared};
use remoc::{Cfg, Connect, ConnectExt};
use tokio::net::UnixStream;

use crate::bulk_caller::BulkCaller;
use crate::cancellable_caller::CancellableCaller;
use crate::cancellation_probe::CancellationProbe;
use crate::number_streamer::{NumberStreamer, StreamKind};
use crate::role::Role;
use crate::stream_opener::StreamOpener;
use crate::worker_handle::WorkerHandle;
use crate::worker_process::{self, WorkerProcess};

/// More channels than a measurement opens. Default: 8,192.
const MAX_PORTS: u32 = 100_000;
/// Larger than any argument. Default: 16 MiB.
const MAX_ARGUMENT: usize = 2 << 30;

#[rtc::remote]
pub(crate) trait PeerWorker {
    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>, CallError>;
    async fn write(&self, count: u64, numbers: mpsc::Sender<u64>) -> Result<(), CallError>;
    async fn sum(&self, numbers: mpsc::Receiver<u64>) -> Result<u64, CallError>;
    async fn length(&self, bytes: Bytes) -> Result<u64, CallError>;
    async fn open(&self) -> Result<mpsc::Receiver<u64>, CallError>;
    async fn run_until_cancelled(&self) -> Result<(), CallError>;
    async fn wait_until_started(&self) -> Result<(), CallError>;
    async fn wait_until_stopped(&self) -> Result<u64, CallError>;
}

#[derive(Default)]
struct PeerState {
    idle: Mutex<Vec<mpsc::Sender<u64>>>,
    probe: CancellationProbe,
}

impl PeerWorker for PeerState {
    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>, CallError> {
        let (sender, receiver) = mpsc::channel();
        tokio::spawn(send_numbers(count, sender));
        Ok(receiver)
    }

    async fn write(&self, count: u64, numbers: mpsc::Sender<u64>) -> Result<(), CallError> {
        send_numbers(count, numbers).await;
        Ok(())
    }

    async fn sum(&self, numbers: mpsc::Receiver<u64>) -> Result<u64, CallError> {
        // A failure results in a wrong sum, which the master detects.
        Ok(sum_numbers(numbers).await.unwrap_or(0))
    }

    async fn length(&self, bytes: Bytes) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }

    async fn open(&self) -> Result<mpsc::Receiver<u64>, CallError> {
        let (sender, receiver) = mpsc::channel();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(receiver)
    }

    async fn run_until_cancelled(&self) -> Result<(), CallError> {
        match self.probe.run_until_cancelled().await {}
    }

    async fn wait_until_started(&self) -> Result<(), CallError> {
        self.probe.wait_until_started().await;
        Ok(())
    }

    async fn wait_until_stopped(&self) -> Result<u64, CallError> {
        Ok(self.probe.wait_until_stopped().await)
    }
}

async fn send_numbers(count: u64, numbers: mpsc::Sender<u64>) {
    for number in 0..count {
        // The reader detects missing numbers.
        let Ok(_sending) = numbers.send(number).await else { return };
    }
}

async fn sum_numbers(mut numbers: mpsc::Receiver<u64>) -> anyhow::Result<u64> {
    let mut sum = 0;
    while let Some(number) = numbers.recv().await? {
        sum += number;
    }
    Ok(sum)
}

pub(crate) struct RemocPeer {
    client: PeerWorkerClient,
    process: WorkerProcess,
}

impl WorkerHandle for RemocPeer {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Remoc)?;
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let client = Connect::io(settings(), reader, writer).consume().await?;
        Ok(Self { client, process })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn stop(self) -> anyhow::Result<()> {
        drop(self.client);
        self.process.exited().await
    }
}

impl NumberStreamer for RemocPeer {
    async fn sum(&mut self, kind: StreamKind, count: u64) -> anyhow::Result<u64> {
        let (sender, receiver) = mpsc::channel();
        match kind {
            StreamKind::Result => sum_numbers(self.client.numbers(count).await?).await,
            StreamKind::Writer | StreamKind::Callback => {
                let sum = tokio::spawn(sum_numbers(receiver));
                self.client.write(count, sender).await?;
                sum.await?
            }
            StreamKind::Argument => {
                tokio::spawn(send_numbers(count, sender));
                Ok(self.client.sum(receiver).await?)
            }
        }
    }
}

impl BulkCaller<Bytes> for RemocPeer {
    async fn call_with(&mut self, argument: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(argument).await?)
    }
}

impl StreamOpener for RemocPeer {
    type Stream = mpsc::Receiver<u64>;

    async fn open(&mut self) -> anyhow::Result<Self::Stream> {
        Ok(self.client.open().await?)
    }
}

impl CancellableCaller for RemocPeer {
    async fn run_until_cancelled(&self) -> anyhow::Result<()> {
        Ok(self.client.run_until_cancelled().await?)
    }

    async fn wait_until_started(&self) -> anyhow::Result<()> {
        Ok(self.client.wait_until_started().await?)
    }

    async fn wait_until_stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.wait_until_stopped().await?)
    }
}

/// Runs as the worker. Calls run concurrently, as in the other contenders.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    tokio::spawn(async move {
        let (server, mut client) =
            PeerWorkerServerShared::<_, remoc::codec::Default>::new(Arc::new(PeerState::default()));
        client.set_max_request_size(MAX_ARGUMENT);
        Connect::io(settings(), reader, writer).provide(client).await?;
        server.serve().await.map_err(|error| anyhow!("failed to serve: {error}"))
    })
    .await?
}

fn settings() -> Cfg {
    Cfg { max_ports: MAX_PORTS, ..Cfg::default() }
}
