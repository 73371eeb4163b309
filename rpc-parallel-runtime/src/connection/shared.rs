//! One end of a connection, as its clients, calls, pipes and driver share it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::client::Hold;
use super::failure::Loss;
use super::inflow::{Inflow, ReadEnd};
use super::outbox::Outbox;
use super::outflow::{Outflow, WriteEnd};
use super::panics::install_hook;
use super::pipe::{PipeError, PipeErrorKind};
use super::traffic::Traffic;
use crate::wire::{
    Body, Frame, FrameError, LARGEST_WINDOW, Opened, Settings, StreamId, Streams, WorkerLabel,
    WrittenBy,
};

/// One end of a connection.
pub(crate) struct Connection {
    pub(super) peer: Peer,
    pub(super) settings: Settings,
    pub(super) outbox: Outbox,
    /// The runtime of the tasks that feed pipes.
    pub(super) runtime: Handle,
    next_stream: AtomicU64,
    table: Mutex<Table>,
}

/// The process at the other end.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Worker(Arc<WorkerLabel>),
    Caller,
}

#[derive(Default)]
struct Table {
    streams: HashMap<StreamId, End>,
    /// The highest stream id that the peer has used.
    newest_of_peer: u64,
    lost: Option<Arc<Loss>>,
}

/// This side's end of a stream.
pub(super) enum End {
    Reading(Arc<Inflow>),
    Writing(Arc<Outflow>),
}

/// An owned end of a stream. Dropping it ends the stream.
pub(super) enum OwnedEnd {
    Reading(ReadEnd),
    Writing(WriteEnd),
}

impl Connection {
    pub(super) fn new(peer: Peer, settings: Settings, outbox: Outbox) -> Self {
        // Panics of streams and callbacks of pipes are reported to the peer.
        install_hook();
        let first = if let Peer::Worker(_) = peer { 1 } else { 2 };
        Self {
            peer,
            settings,
            outbox,
            runtime: Handle::current(),
            next_stream: AtomicU64::new(first),
            table: Mutex::default(),
        }
    }

    /// Returns the counters of this connection's traffic.
    pub(super) fn traffic(&self) -> &'static Traffic {
        self.outbox.traffic
    }

    /// Returns the worker at the other end, if it is one.
    pub(super) fn worker(&self) -> Option<&WorkerLabel> {
        match &self.peer {
            Peer::Worker(label) => Some(label),
            Peer::Caller => None,
        }
    }

    /// Makes this side's end of a stream that a message of this process opens.
    pub(super) fn open(
        self: &Arc<Self>,
        writer: WrittenBy,
        window: Option<u32>,
        keep: Option<Arc<Hold>>,
    ) -> (Opened, OwnedEnd) {
        let id = StreamId(self.next_stream.fetch_add(2, Ordering::Relaxed));
        let window = window.unwrap_or(self.settings.stream_window() as u32);
        let end = self.insert(id, window, writer == WrittenBy::Sender);
        end.keep(keep);
        (Opened { id, writer, window }, end)
    }

    /// Makes this side's ends of the streams that a message of the peer opens.
    pub(super) fn accept(
        self: &Arc<Self>,
        streams: Streams<'_>,
    ) -> Result<Vec<OwnedEnd>, FrameError> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let ours = self.next_stream.load(Ordering::Relaxed) % 2;
        let accept = |Opened { id, writer, window }: Opened| {
            let mut table = self.table();
            if id.0 % 2 == ours || table.streams.contains_key(&id) {
                return Err(violation(
                    id,
                    "opened with a number that is in use or reserved for this end",
                ));
            }
            if window == 0 || window > LARGEST_WINDOW {
                return Err(violation(id, "the window is 0 bytes or larger than 1 GiB"));
            }
            table.newest_of_peer = table.newest_of_peer.max(id.0);
            drop(table);
            Ok(self.insert(id, window, writer == WrittenBy::Receiver))
        };
        streams.iter().map(accept).collect()
    }

    fn insert(self: &Arc<Self>, id: StreamId, window: u32, writes: bool) -> OwnedEnd {
        let mut table = self.table();
        let lost = table.lost.clone();
        let end = if writes {
            let outflow = Arc::new(Outflow::new(id, window, self.clone()));
            if lost.is_none() {
                table.streams.insert(id, End::Writing(outflow.clone()));
                self.traffic().pipe_opened();
            }
            OwnedEnd::Writing(WriteEnd(outflow))
        } else {
            let inflow = Arc::new(Inflow::new(id, window, self.clone()));
            if lost.is_none() {
                table.streams.insert(id, End::Reading(inflow.clone()));
                self.traffic().pipe_opened();
            }
            OwnedEnd::Reading(ReadEnd(inflow))
        };
        drop(table);
        if let Some(loss) = lost {
            match &end {
                OwnedEnd::Reading(ReadEnd(inflow)) => inflow.lose(&loss, &mut Vec::new()),
                OwnedEnd::Writing(WriteEnd(outflow)) => outflow.lose(&loss, &mut Vec::new()),
            }
        }
        end
    }

    /// Handles a frame that concerns a stream.
    pub(super) fn handle(
        &self,
        frame: Frame<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), FrameError> {
        match frame {
            Frame::Items { stream, count, elements } => {
                self.receive(stream, count, elements, wakers)
            }
            Frame::Skipped { stream, error } => {
                let inflow =
                    self.reading(stream, "a skipped element of a stream that is not open")?;
                let error = PipeError::of_frame(error, self.worker());
                let error = error
                    .err()
                    .ok_or_else(|| violation(stream, "skipped element without an error"))?;
                inflow.skip(error, wakers).map_err(|it| violation(stream, it))
            }
            Frame::End { stream, error } => self.finish(stream, error, wakers),
            Frame::Stop { stream } => self.stop(stream, wakers),
            Frame::Credit { stream, bytes } => self.credit(stream, bytes, wakers),
            frame => Err(FrameError::OutOfPlace(frame.describe())),
        }
    }

    /// Ends streams that the peer never opens, because the message that opens them was abandoned.
    pub(super) fn abandon(&self, streams: &[StreamId]) {
        let mut wakers = Vec::new();
        let mut table = self.table();
        let ends: Vec<_> = streams.iter().filter_map(|it| table.streams.remove(it)).collect();
        drop(table);
        self.traffic().pipes_ended(ends.len());
        for end in ends {
            match end {
                End::Reading(inflow) => {
                    let error = PipeError::new(self.worker(), PipeErrorKind::Cancelled);
                    inflow.finish(Err(error), &mut wakers);
                }
                End::Writing(outflow) => {
                    drop(outflow.close(PipeErrorKind::ReaderGone, &mut wakers));
                }
            }
        }
        self.outbox.forget(streams);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Handles elements that the peer has written.
    fn receive(
        &self,
        id: StreamId,
        count: u32,
        elements: Body<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), FrameError> {
        let inflow = self.reading(id, "elements of a stream that is not open")?;
        inflow.receive(count, elements, wakers).map_err(|it| violation(id, it))
    }

    /// Handles the end of a stream that the peer has written.
    fn finish(
        &self,
        id: StreamId,
        error: &[u8],
        wakers: &mut Vec<Waker>,
    ) -> Result<(), FrameError> {
        let inflow = self.reading(id, "the end of a stream that is not open")?;
        self.remove(id);
        inflow.finish(PipeError::of_frame(error, self.worker()), wakers);
        Ok(())
    }

    /// Handles a `stop`: the peer reads no more elements of the stream.
    fn stop(&self, id: StreamId, wakers: &mut Vec<Waker>) -> Result<(), FrameError> {
        if let Some(outflow) = self.writing(id, "stop of a stream that this end does not write")? {
            outflow.stop(wakers);
        }
        Ok(())
    }

    /// Handles a `credit`: the peer has read this number of bytes of the stream.
    fn credit(&self, id: StreamId, bytes: u32, wakers: &mut Vec<Waker>) -> Result<(), FrameError> {
        let Some(outflow) = self.writing(id, "credit for a stream that this end does not write")?
        else {
            return Ok(());
        };
        outflow.credit(bytes, wakers).map_err(|it| violation(id, it))
    }

    fn reading(&self, id: StreamId, wrong: &'static str) -> Result<Arc<Inflow>, FrameError> {
        match self.table().streams.get(&id) {
            Some(End::Reading(inflow)) => Ok(inflow.clone()),
            Some(End::Writing(_)) | None => Err(violation(id, wrong)),
        }
    }

    /// Returns the writing end of a stream. Returns `None` if it has ended, because the peer may
    /// not have received the end yet.
    fn writing(
        &self,
        id: StreamId,
        wrong: &'static str,
    ) -> Result<Option<Arc<Outflow>>, FrameError> {
        let table = self.table();
        let next = self.next_stream.load(Ordering::Relaxed);
        let newest = if id.0 % 2 == next % 2 { next - 1 } else { table.newest_of_peer };
        match table.streams.get(&id) {
            Some(End::Writing(outflow)) => Ok(Some(outflow.clone())),
            Some(End::Reading(_)) => Err(violation(id, wrong)),
            None if id.0 > newest => Err(violation(id, wrong)),
            None => Ok(None),
        }
    }

    pub(super) fn remove(&self, id: StreamId) {
        let removed = self.table().streams.remove(&id);
        if removed.is_some() {
            self.traffic().pipes_ended(1);
        }
        // Dropped after the lock is released.
        drop(removed);
    }

    /// Ends all streams, because the connection is lost.
    pub(super) fn lose(&self, loss: &Arc<Loss>) {
        let mut table = self.table();
        table.lost.get_or_insert_with(|| loss.clone());
        let streams = std::mem::take(&mut table.streams);
        drop(table);
        self.traffic().pipes_ended(streams.len());
        let mut wakers = Vec::new();
        for end in streams.into_values() {
            match end {
                End::Reading(inflow) => inflow.lose(loss, &mut wakers),
                End::Writing(outflow) => outflow.lose(loss, &mut wakers),
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no thread panics while it holds this lock")
    }

    /// Returns the number of buffered bytes, and its limit.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> (usize, usize) {
        // The last element of each stream may overdraw its window.
        let overdraft = crate::wire::largest_frame(self.settings.max_message_size());
        let table = self.table();
        let kept = table.streams.values().filter_map(|it| match it {
            End::Reading(inflow) => Some(inflow.kept()),
            End::Writing(_) => None,
        });
        kept.fold((0, 0), |(kept, allowed), (bytes, window)| {
            (kept + bytes, allowed + window + overdraft)
        })
    }

    /// Returns how many streams are open.
    pub(super) fn open_streams(&self) -> usize {
        self.table().streams.len()
    }
}

impl OwnedEnd {
    pub(super) fn id(&self) -> StreamId {
        match self {
            Self::Reading(ReadEnd(inflow)) => inflow.id(),
            Self::Writing(WriteEnd(outflow)) => outflow.id(),
        }
    }

    /// Keeps the connection open while the stream is open.
    pub(super) fn keep(&self, keep: Option<Arc<Hold>>) {
        match self {
            Self::Reading(ReadEnd(inflow)) => inflow.keep(keep),
            Self::Writing(WriteEnd(outflow)) => outflow.keep(keep),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("open_streams", &self.open_streams())
            .finish_non_exhaustive()
    }
}

/// A received piece of a stream.
pub(super) enum Chunk {
    /// The number of elements, and their encoded bytes.
    Elements { count: u32, bytes: Bytes },
    /// The error of an element that the peer failed to send.
    Skipped(PipeError),
}

impl Chunk {
    /// Returns how many bytes of the window a chunk of `len` bytes takes.
    pub(super) fn cost_of(len: usize) -> usize {
        /// The approximate memory of a chunk beside its bytes.
        const OVERHEAD: usize = 64;
        len + OVERHEAD
    }

    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Elements { bytes, .. } => Self::cost_of(bytes.len()),
            Self::Skipped(_) => Self::cost_of(0),
        }
    }
}

fn violation(StreamId(stream): StreamId, violation: &'static str) -> FrameError {
    FrameError::Stream { stream, violation }
}
