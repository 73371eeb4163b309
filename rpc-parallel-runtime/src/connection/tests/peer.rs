//! One end of a connection that a test drives frame by frame, without the code under test.

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::settings;
use crate::connection::client::Client;
use crate::connection::scripted::{Functions, Halves, client, opening};
use crate::connection::shared::Connection;
use crate::connection::{Serving, ServingError};
use crate::transport::memory::pair;
use crate::transport::{Reader, Writer};
use crate::wire::{FrameWriter, FunctionInfo, Greeting, ReceiveLimits, Settings, WorkerId};

/// The kinds of frames, as the header of `wire/frame.rs` lists them.
pub(super) mod kind {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const WELCOME: u8 = 2;
    pub(in super::super) const REFUSE: u8 = 3;
    pub(in super::super) const CALL: u8 = 4;
    pub(in super::super) const ANSWER: u8 = 5;
    pub(in super::super) const CANCEL: u8 = 6;
    pub(in super::super) const ONE_WAY: u8 = 7;
    pub(in super::super) const ITEMS: u8 = 8;
    pub(in super::super) const END: u8 = 9;
    pub(in super::super) const STOP: u8 = 10;
    pub(in super::super) const CREDIT: u8 = 11;
    pub(in super::super) const BEGIN: u8 = 12;
    pub(in super::super) const FRAGMENT: u8 = 13;
    pub(in super::super) const ABANDON: u8 = 14;
    pub(in super::super) const SKIPPED: u8 = 15;
    pub(in super::super) const ACKNOWLEDGE: u8 = 17;
    pub(in super::super) const ONE_WAY_CREDIT: u8 = 19;
}

/// One end of a connection, driven by a test.
pub(super) struct Peer {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    received: Vec<u8>,
    /// The rest of a frame that `try_send` has written partly.
    unsent: Vec<u8>,
}

/// The capacity of the transports: all that a test sends at once fits.
const CAPACITY: usize = 4 * 1024 * 1024;

/// Connects a peer, as the caller, to a worker with these functions.
pub(super) async fn connect_as_caller(
    functions: Functions,
) -> (Peer, JoinHandle<Result<(), ServingError>>, Arc<Connection>) {
    connect_as_caller_with(settings(), functions).await
}

/// Connects a peer, as the caller, to a worker with these settings and functions.
pub(super) async fn connect_as_caller_with(
    settings: Settings,
    functions: Functions,
) -> (Peer, JoinHandle<Result<(), ServingError>>, Arc<Connection>) {
    connect_as_caller_over(CAPACITY, settings, functions).await
}

/// Connects a peer, as the caller, over a transport that holds `capacity` bytes per direction.
pub(super) async fn connect_as_caller_over(
    capacity: usize,
    settings: Settings,
    functions: Functions,
) -> (Peer, JoinHandle<Result<(), ServingError>>, Arc<Connection>) {
    let (client_end, worker_end) = pair(capacity);
    let mut peer = Peer::new(client_end);
    let mut request = Vec::new();
    let (greeting, id) = (Greeting::new(&[]), WorkerId::random());
    FrameWriter::connect(&mut request, greeting, id, ReceiveLimits::of(&settings)).finish();
    peer.send(&request);
    let mut opening = opening(worker_end, settings);
    opening.receive_request().await.expect("the request has been sent");
    let serving = Serving::welcome(opening, Arc::new(functions));
    let connection = serving.connection();
    let worker = tokio::spawn(serving.run());
    assert_eq!(peer.receive().await.as_deref(), Some(&welcome(settings)[4..]));
    (peer, worker, connection)
}

/// Connects a client to a peer that acts as its worker.
pub(super) async fn accept_as_worker() -> (Peer, Client) {
    accept_as_worker_with(settings()).await
}

/// Connects a client with these settings to a peer that acts as its worker.
pub(super) async fn accept_as_worker_with(settings: Settings) -> (Peer, Client) {
    accept_as_worker_of(settings, settings).await
}

/// Connects a client with the settings `caller` to a peer that announces the limits of the settings
/// `worker`.
pub(super) async fn accept_as_worker_of(worker: Settings, caller: Settings) -> (Peer, Client) {
    let (client_end, worker_end) = pair(CAPACITY);
    let mut peer = Peer::new(worker_end);
    peer.send(&welcome(worker));
    let client = client(client_end, caller).await;
    assert_eq!(peer.receive().await.map(|it| it[0]), Some(kind::CONNECT));
    (peer, client)
}

impl Peer {
    pub(super) fn new((reader, writer): Halves) -> Self {
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            received: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Sends bytes at once.
    ///
    /// # Panics
    ///
    /// Panics if the transport has no room for all of them.
    pub(super) fn send(&self, frames: &[u8]) {
        let written =
            self.writer.try_write(&[IoSlice::new(frames)]).expect("the transport has room");
        assert_eq!(written, frames.len(), "the transport has room for all frames");
    }

    /// Sends a frame, or the rest of the frame before it, as far as the transport has room.
    /// Returns whether that frame is complete.
    pub(super) fn try_send(&mut self, frame: &[u8]) -> bool {
        let rest = if self.unsent.is_empty() { frame } else { &self.unsent };
        let written = self.writer.try_write(&[IoSlice::new(rest)]).unwrap_or(0);
        let complete = written == rest.len();
        if written > 0 || !self.unsent.is_empty() {
            self.unsent = rest[written..].to_vec();
        }
        complete
    }

    /// Drops the reading half, and returns the writing half.
    pub(super) fn into_writer(self) -> Box<dyn Writer> {
        self.writer
    }

    /// Receives the next frame, without its length; `None` if the other end has ended.
    pub(super) async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if self.read(&mut [0; 1024]).await == 0 {
                return None;
            }
        }
    }

    /// Returns the next frame that was received completely, without its length.
    pub(super) fn take_frame(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.received.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let frame = rest.get(..length)?.to_vec();
        self.received.drain(..4 + length);
        Some(frame)
    }

    /// Receives bytes, without waiting for a complete frame. Returns how many.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let read = poll_fn(|cx| self.reader.poll_read(cx, &mut [IoSliceMut::new(buffer)])).await;
        let len = read.expect("a transport in memory does not fail");
        self.received.extend_from_slice(&buffer[..len]);
        len
    }

    /// Returns whether bytes have arrived that were not received. It receives them.
    pub(super) fn has_received(&mut self, cx: &mut Context<'_>) -> bool {
        let mut buffer = [0; 1024];
        let mut space = [IoSliceMut::new(&mut buffer)];
        let read = self.reader.poll_read(cx, &mut space);
        if let Poll::Ready(Ok(len)) = read {
            self.received.extend_from_slice(&buffer[..len]);
        }
        read.is_ready()
    }

    /// Receives all frames until the other end has ended.
    pub(super) async fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive().await {
            frames.push(frame);
        }
        frames
    }
}

/// Encodes a frame from its kind and its fields.
pub(super) fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = u32::try_from(1 + fields.len()).expect("frames of tests are short");
    [&length.to_le_bytes()[..], &[kind], &fields].concat()
}

/// Encodes the welcome of a worker with these settings.
pub(super) fn welcome(settings: Settings) -> Vec<u8> {
    frame(kind::WELCOME, &[&ReceiveLimits::of(&settings).to_bytes()])
}

/// A stream that a message opens: its id, its writer (`SENDER` or `RECEIVER`), and its window.
pub(super) type Opens = (u64, u8, u32);

/// The writer of a stream, relative to the message that opens it.
pub(super) const SENDER: u8 = 0;
pub(super) const RECEIVER: u8 = 1;

fn message(message: &[u8], opens: &[Opens]) -> Vec<u8> {
    let mut bytes = vec![u8::from(!opens.is_empty())];
    bytes.extend_from_slice(message);
    for (id, writer, window) in opens {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.push(*writer);
        bytes.extend_from_slice(&window.to_le_bytes());
    }
    if !opens.is_empty() {
        let count = u16::try_from(opens.len()).expect("messages of tests open few streams");
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}

pub(super) fn call(id: u64, info: &FunctionInfo, arguments: &[u8], opens: &[Opens]) -> Vec<u8> {
    let function = info.id().get().to_le_bytes();
    frame(kind::CALL, &[&id.to_le_bytes(), &function, &message(arguments, opens)])
}

/// Returns the number of the call that a frame begins.
pub(super) fn number(frame: &[u8]) -> u64 {
    assert_eq!(frame[0], kind::CALL);
    u64::from_le_bytes(*frame[1..].first_chunk().expect("the frame has a number"))
}

pub(super) fn one_way(info: &FunctionInfo, arguments: &[u8], opens: &[Opens]) -> Vec<u8> {
    frame(kind::ONE_WAY, &[&info.id().get().to_le_bytes(), &message(arguments, opens)])
}

/// Encodes an answer that holds a value.
pub(super) fn answer(call: u64, value: &[u8], opens: &[Opens]) -> Vec<u8> {
    frame(kind::ANSWER, &[&call.to_le_bytes(), &[0], &message(value, opens)])
}

pub(super) fn items(stream: u64, count: u32, elements: &[u8]) -> Vec<u8> {
    frame(kind::ITEMS, &[&stream.to_le_bytes(), &count.to_le_bytes(), elements])
}

pub(super) fn end(stream: u64) -> Vec<u8> {
    frame(kind::END, &[&stream.to_le_bytes()])
}

pub(super) fn stop(stream: u64) -> Vec<u8> {
    frame(kind::STOP, &[&stream.to_le_bytes()])
}

pub(super) fn credit(stream: u64, bytes: u32) -> Vec<u8> {
    frame(kind::CREDIT, &[&stream.to_le_bytes(), &bytes.to_le_bytes()])
}

pub(super) fn begin(transfer: u32, total: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::BEGIN, &[&transfer.to_le_bytes(), &total.to_le_bytes(), bytes])
}

pub(super) fn fragment(transfer: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::FRAGMENT, &[&transfer.to_le_bytes(), bytes])
}

/// A pipe as a value, when it is the first stream of its message.
pub(super) const PIPE: &[u8] = b"\x81\xb2rpc_parallel::Pipe\x00";

/// A pipe's writer as a value, when it is the first stream of its message.
pub(super) const WRITER: &[u8] = b"\x81\xb8rpc_parallel::PipeWriter\x00";
