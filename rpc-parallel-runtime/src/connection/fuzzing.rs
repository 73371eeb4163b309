//! A peer of either end of a connection that is driven by fuzzer input.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::task::{JoinSet, yield_now};

use super::scripted::{Functions, Halves, call, client, function, opening};
use super::serving::Serving;
use super::shared::Connection;
use super::{Pipe, PipeEvent, PipeWriter};
use crate::transport::memory::pair;
use crate::transport::{Reader, Writer};
use crate::wire::{
    FrameWriter, FunctionInfo, FuzzInput, Greeting, ReceiveLimits, Settings, WorkerId, fuzz_frame,
};

const ECHO: &FunctionInfo = &function("echo");
const SUM: &FunctionInfo = &function("sum");
const COUNT: &FunctionInfo = &function("count");
const DOUBLE: &FunctionInfo = &function("double");
const WRITE: &FunctionInfo = &function("write");
const KEEP: &FunctionInfo = &function("keep");
const LASTING: &FunctionInfo = &function("lasting").no_cancel();
const NOTE: &FunctionInfo = &function("note").one_way();

const FUNCTIONS: [&FunctionInfo; 8] = [ECHO, SUM, COUNT, DOUBLE, WRITE, KEEP, LASTING, NOTE];

/// The maximum message size, in bytes. Larger messages are slow to fuzz and reach no other code.
const MAX_MESSAGE_SIZE: usize = 1024;

/// The default flow-control window, in bytes.
const WINDOW: usize = 1000;

/// The number of turns of all tasks after each operation. It is more than any task needs.
const TURNS: usize = 8;

/// Plays the peer of a worker or of a client, with the operations of the input.
///
/// # Panics
///
/// Panics if the end under test buffers more than its limit, or leaves a stream or a call behind.
pub(crate) fn converse(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without sockets can be made");
    let mut input = FuzzInput::new(bytes, &FUNCTIONS);
    let side = input.u8();
    // The minimum holds the request, which the peer does not read before it accepts.
    let capacity = 128 + usize::from(input.u16()) % 4096;
    match side % 2 {
        0 => runtime.block_on(with_worker(input, capacity)),
        _ => runtime.block_on(with_client(input, capacity, side & 2 != 0)),
    }
}

async fn with_worker(mut input: FuzzInput<'_>, capacity: usize) {
    let limits = peer_limits(&mut input);
    let (here, there) = pair(capacity);
    let mut peer = Peer(here);
    let mut opening = opening(there, settings());
    let worker = tokio::spawn(async move {
        opening.receive_request().await.expect("the greeting is valid");
        let serving = Serving::welcome(opening, Arc::new(functions()));
        let connection = serving.connection();
        (connection, tokio::spawn(serving.run()))
    });
    let mut greeting = Vec::new();
    let id = WorkerId::random();
    FrameWriter::connect(&mut greeting, Greeting::new(&[]), id, limits).finish();
    peer.send(&greeting).await;
    let (connection, worker) = worker.await.expect("the task does not panic");

    peer.send_all(input, &connection).await;
    drop(peer);

    let _ = worker.await.expect("the driver does not panic");
    turns(TURNS).await;
    assert_eq!(connection.open_streams(), 0, "streams are left");
}

async fn with_client(mut input: FuzzInput<'_>, capacity: usize, acknowledged: bool) {
    let limits = peer_limits(&mut input);
    let (here, there) = pair(capacity);
    let mut peer = Peer(there);
    let client = tokio::spawn(client(here, settings()));
    if acknowledged {
        peer.send(&fuzz_frame(17, &[])).await;
    }
    peer.send(&fuzz_frame(2, &[&limits.to_bytes()])).await;
    let client = client.await.expect("the peer accepts the connection");
    let connection = client.connection();
    let mut begun = JoinSet::new();
    begun.spawn(ignore(call::<_, Vec<u8>>(&client, ECHO, vec![7_u8; 10])));
    begun.spawn(ignore(call::<_, Bytes>(&client, ECHO, Bytes::from_static(&[7; 900]))));
    begun.spawn(ignore(call::<_, u64>(&client, SUM, Pipe::from_items(0..50_u64))));
    let (writer, pipe) = Pipe::<u64>::pair();
    begun.spawn(ignore(call::<_, ()>(&client, WRITE, (5_u64, writer.with_window(100)))));
    begun.spawn(read(pipe));
    let (writer, pipe) = Pipe::<u64>::pair();
    begun.spawn(ignore(call::<_, ()>(&client, WRITE, (5_u64, writer.with_window(100)))));
    pipe.for_each_direct(|_: PipeEvent<u64>| {});
    let doubled = call::<_, Pipe<u64>>(&client, DOUBLE, Pipe::from_items(0..).with_window(1));
    begun.spawn(async {
        if let Ok(doubled) = doubled.await {
            read(doubled).await;
        }
    });
    let map = call::<_, BTreeMap<u8, Pipe<Bytes>>>(&client, COUNT, 3_u64);
    begun.spawn(async {
        for (_, pipe) in map.await.unwrap_or_default() {
            read(pipe).await;
        }
    });
    begun.spawn(ignore(call::<_, ()>(&client, NOTE, Pipe::from_items(0..3_u64))));
    turns(TURNS).await;

    peer.send_all(input, &connection).await;
    drop((peer, client));

    // No call and no pipe waits forever after the peer has disconnected.
    for _ in 0..1000 {
        while let Some(ended) = begun.try_join_next() {
            ended.expect("no call panics");
        }
        if begun.is_empty() {
            break;
        }
        yield_now().await;
    }
    assert_eq!(begun.len(), 0, "a call or a pipe has not ended");
    assert_eq!(connection.open_streams(), 0, "streams are left");
}

fn settings() -> Settings {
    Settings::default().with_max_message_size(MAX_MESSAGE_SIZE).with_stream_window(WINDOW)
}

/// Takes the limits that the peer announces, in the ranges of their settings.
fn peer_limits(input: &mut FuzzInput<'_>) -> ReceiveLimits {
    ReceiveLimits {
        max_message_size: 1024 + usize::from(input.u8()),
        stream_window: 1 + usize::from(input.u16()),
        connection_window: 64 * 1024 + usize::from(input.u16()),
        max_calls: 1 + u32::from(input.u8()),
        max_one_way_calls: 1 + u32::from(input.u8()),
        max_pipes: 1 + u32::from(input.u8()),
    }
}

fn functions() -> Functions {
    Functions::default()
        .with(ECHO, async |it: Bytes| it)
        .with(SUM, async |pipe: Pipe<u64>| read(pipe).await)
        .with(COUNT, async |to: u64| Pipe::from_items(0..to))
        .with(DOUBLE, async |pipe: Pipe<u64>| pipe)
        .with(WRITE, async |(to, writer): (u8, PipeWriter<u64>)| {
            let _ = writer.send_all(0..u64::from(to)).await;
        })
        .with(KEEP, async |pipes: BTreeMap<u8, Pipe<u64>>| {
            let _pipes = pipes;
            std::future::pending::<()>().await;
        })
        .with(LASTING, async |pipe: Pipe<u64>| {
            pipe.for_each_direct(|_: PipeEvent<u64>| {});
        })
        .with(NOTE, async |pipe: Pipe<Bytes>| read(pipe).await)
}

async fn ignore<T>(call: impl Future<Output = T>) {
    let _ = call.await;
}

async fn read<T: Send + 'static>(mut pipe: Pipe<T>) {
    while pipe.next().await.is_some() {}
}

async fn turns(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// The peer that the fuzzer drives.
struct Peer(Halves);

impl Peer {
    /// Sends all operations of the input, and checks the limit of buffered bytes after each.
    async fn send_all(&mut self, mut input: FuzzInput<'_>, connection: &Connection) {
        while !input.is_empty() {
            let mut bytes = Vec::new();
            input.next_operation(&mut bytes);
            if !self.send(&bytes).await {
                return;
            }
            turns(TURNS).await;
            let (kept, allowed) = connection.kept();
            assert!(kept <= allowed, "{kept} bytes are kept, {allowed} are allowed");
        }
    }

    /// Sends bytes. Returns `false` if the other end has closed the connection.
    async fn send(&mut self, mut bytes: &[u8]) -> bool {
        let mut idle = 0;
        while !bytes.is_empty() {
            match self.0.1.try_write(&[IoSlice::new(bytes)]) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    idle = 0;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => idle += 1,
                Err(_) => return false,
            }
            self.receive().await;
            yield_now().await;
            if idle > 10_000 {
                panic!("the other end has stopped reading");
            }
        }
        true
    }

    /// Reads and drops the bytes that the other end has sent.
    async fn receive(&mut self) {
        let mut buffer = [0; 1024];
        loop {
            let mut space = [IoSliceMut::new(&mut buffer)];
            let read = poll_fn(|cx| Poll::Ready(self.0.0.poll_read(cx, &mut space))).await;
            if !matches!(read, Poll::Ready(Ok(1..))) {
                return;
            }
        }
    }
}
