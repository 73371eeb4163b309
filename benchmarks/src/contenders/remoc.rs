//! A peer: remoc with its own codec over a Unix socket, a remote trait and its channels.

use std::os::unix::net;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use bytes::Bytes;
use remoc::rch::mpsc;
use remoc::rtc::{self, CallError, Client, ServerShared};
use remoc::{Cfg, Connect, ConnectExt};
use tokio::net::UnixStream;

use crate::canceller::Canceller;
use crate::carrier::Carrier;
use crate::conversation::Conversation;
use crate::holding::Holding;
use crate::opener::Opener;
use crate::role::Role;
use crate::streamer::{Streamer, Way};
use crate::worker_process::{self, WorkerProcess};

/// More channels than are ever open; the default is 8,192.
const MOST_PORTS: u32 = 100_000;
/// Larger than any argument; the default is 16 MiB.
const LARGEST: usize = 2 << 30;

#[rtc::remote]
pub(crate) trait Served {
    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>, CallError>;
    async fn write(&self, count: u64, numbers: mpsc::Sender<u64>) -> Result<(), CallError>;
    async fn sum(&self, numbers: mpsc::Receiver<u64>) -> Result<u64, CallError>;
    async fn length(&self, bytes: Bytes) -> Result<u64, CallError>;
    async fn open(&self) -> Result<mpsc::Receiver<u64>, CallError>;
    async fn hold(&self) -> Result<(), CallError>;
    async fn begun(&self) -> Result<(), CallError>;
    async fn stopped(&self) -> Result<u64, CallError>;
}

#[derive(Default)]
struct Worker {
    idle: Mutex<Vec<mpsc::Sender<u64>>>,
    holding: Holding,
}

impl Served for Worker {
    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>, CallError> {
        let (sender, receiver) = mpsc::channel();
        tokio::spawn(send_below(count, sender));
        Ok(receiver)
    }

    async fn write(&self, count: u64, numbers: mpsc::Sender<u64>) -> Result<(), CallError> {
        send_below(count, numbers).await;
        Ok(())
    }

    async fn sum(&self, numbers: mpsc::Receiver<u64>) -> Result<u64, CallError> {
        // What fails shows in the sum.
        Ok(add_up(numbers).await.unwrap_or(0))
    }

    async fn length(&self, bytes: Bytes) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }

    async fn open(&self) -> Result<mpsc::Receiver<u64>, CallError> {
        let (sender, receiver) = mpsc::channel();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(receiver)
    }

    async fn hold(&self) -> Result<(), CallError> {
        match self.holding.hold().await {}
    }

    async fn begun(&self) -> Result<(), CallError> {
        self.holding.begun().await;
        Ok(())
    }

    async fn stopped(&self) -> Result<u64, CallError> {
        Ok(self.holding.stopped().await)
    }
}

async fn send_below(count: u64, numbers: mpsc::Sender<u64>) {
    for number in 0..count {
        // The reader notices that some are missing.
        let Ok(_sending) = numbers.send(number).await else { return };
    }
}

async fn add_up(mut numbers: mpsc::Receiver<u64>) -> anyhow::Result<u64> {
    let mut sum = 0;
    while let Some(number) = numbers.recv().await? {
        sum += number;
    }
    Ok(sum)
}

pub(crate) struct RemocPeer {
    client: ServedClient,
    process: WorkerProcess,
}

impl Conversation for RemocPeer {
    async fn start() -> anyhow::Result<Self> {
        let (socket, process) = worker_process::start(Role::Remoc)?;
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let client = Connect::io(settings(), reader, writer).consume().await?;
        Ok(Self { client, process })
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(self.process.id())
    }

    async fn end(self) -> anyhow::Result<()> {
        drop(self.client);
        self.process.ended().await
    }
}

impl Streamer for RemocPeer {
    async fn sum(&mut self, way: Way, count: u64) -> anyhow::Result<u64> {
        let (sender, receiver) = mpsc::channel();
        match way {
            Way::Result => add_up(self.client.numbers(count).await?).await,
            Way::Writer | Way::Callback => {
                let sum = tokio::spawn(add_up(receiver));
                self.client.write(count, sender).await?;
                sum.await?
            }
            Way::Argument => {
                tokio::spawn(send_below(count, sender));
                Ok(self.client.sum(receiver).await?)
            }
        }
    }
}

impl Carrier<Bytes> for RemocPeer {
    async fn carry(&mut self, cargo: Bytes) -> anyhow::Result<u64> {
        Ok(self.client.length(cargo).await?)
    }
}

impl Opener for RemocPeer {
    type Pipe = mpsc::Receiver<u64>;

    async fn open(&mut self) -> anyhow::Result<Self::Pipe> {
        Ok(self.client.open().await?)
    }
}

impl Canceller for RemocPeer {
    async fn hold(&self) -> anyhow::Result<()> {
        Ok(self.client.hold().await?)
    }

    async fn begun(&self) -> anyhow::Result<()> {
        Ok(self.client.begun().await?)
    }

    async fn stopped(&self) -> anyhow::Result<u64> {
        Ok(self.client.stopped().await?)
    }
}

/// The worker: calls run concurrently, as they do in the others.
pub(crate) async fn serve(socket: net::UnixStream) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    tokio::spawn(async move {
        let (server, mut client) =
            ServedServerShared::<_, remoc::codec::Default>::new(Arc::new(Worker::default()));
        client.set_max_request_size(LARGEST);
        Connect::io(settings(), reader, writer).provide(client).await?;
        server.serve().await.map_err(|error| anyhow!("serve: {error}"))
    })
    .await?
}

fn settings() -> Cfg {
    Cfg { max_ports: MOST_PORTS, ..Cfg::default() }
}
