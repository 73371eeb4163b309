//! The ends of streams that this process owns.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::delivery::{Deliver, Flow};
use super::panics;
use super::pipe::{PipeError, PipeErrorKind};
use super::shared::{Connection, Keeper, Locked};
use crate::protocol::{Chunk, SendStatus, Transmit, WriteClosed};
use crate::wire::{FrameWriter, Large, MessageWriter, Opened, Sink, StreamId, TooLarge, WrittenBy};

/// An owned end of a stream. Dropping it ends the stream.
pub(super) enum OwnedEnd {
    Reading(ReadEnd),
    Writing(WriteEnd),
}

impl OwnedEnd {
    /// Opens a stream by a message of this process, and returns this side's end of it. The caller
    /// keeps the keeper too, so that dropping it here has no effect.
    pub(super) fn open(
        connection: &Arc<Connection>,
        locked: &mut Locked<'_>,
        writer: WrittenBy,
        window: Option<u32>,
        keeper: Option<&Keeper>,
    ) -> (Opened, Self) {
        // The default is that of the end that reads.
        let window = window.unwrap_or_else(|| match writer {
            WrittenBy::Sender => connection.write_window,
            WrittenBy::Receiver => connection.settings.stream_window() as u32,
        });
        let opened = locked.machine.open(writer, window);
        if let Some(keeper) = keeper {
            locked.keep(opened.id, Some(keeper.clone()));
        }
        let writes = writer == WrittenBy::Sender;
        (opened, Self::new(connection, opened.id, writes))
    }

    /// Returns this side's ends of the streams that a message of the peer has opened.
    pub(super) fn accepted(connection: &Arc<Connection>, streams: &[Opened]) -> Vec<Self> {
        let end = |it: &Opened| Self::new(connection, it.id, it.writer == WrittenBy::Receiver);
        streams.iter().map(end).collect()
    }

    fn new(connection: &Arc<Connection>, id: StreamId, writes: bool) -> Self {
        let connection = connection.clone();
        match writes {
            true => Self::Writing(WriteEnd { id, connection }),
            false => Self::Reading(ReadEnd { id, connection }),
        }
    }

    pub(super) fn id(&self) -> StreamId {
        match self {
            Self::Reading(end) => end.id,
            Self::Writing(end) => end.id,
        }
    }

    /// Keeps the connection open while the stream is open.
    pub(super) fn keep(&self, keeper: Option<Keeper>) {
        let (Self::Reading(ReadEnd { id, connection })
        | Self::Writing(WriteEnd { id, connection })) = self;
        let before = connection.lock().keep(*id, keeper);
        // Dropped after the lock is released, because it may close the connection.
        drop(before);
    }
}

/// The owned reading end of a stream. Dropping it stops the writer, unless a callback reads the
/// stream.
pub(super) struct ReadEnd {
    id: StreamId,
    connection: Arc<Connection>,
}

impl ReadEnd {
    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Stops keeping the connection open, and returns what has kept it.
    #[cfg(feature = "tracing")]
    pub(super) fn release_keeper(&self) -> Option<Keeper> {
        self.connection.lock().keep(self.id, None)
    }

    /// Returns the next chunk, or `None` at the end.
    pub(super) fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Option<Result<Chunk, PipeError>>> {
        let mut locked = self.connection.lock();
        match locked.machine.poll_chunk(self.id, cx.waker()) {
            Some(Ok(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Some(Err(ended)) => {
                let result = locked.result_of(ended, self.connection.worker());
                Poll::Ready(result.err().map(Err))
            }
            None => Poll::Pending,
        }
    }

    /// Records that a chunk was read.
    pub(super) fn note_read(&self, cost: usize) {
        self.connection.lock().machine.note_read(self.id, cost);
    }

    /// Sends a `stop` to the writer. The writer answers with the end of the stream.
    pub(super) fn send_stop(&self) {
        self.connection.lock().machine.stop(self.id);
    }

    /// Calls the callback with all buffered chunks, and lets the driver call it from then on.
    pub(super) fn read_direct(self, callback: Deliver) {
        self.connection.run_callback(self.id, callback, Flow::Continue, 0);
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        // In a forked child, the connection belongs to the parent.
        if self.connection.is_inherited() {
            return;
        }
        let mut locked = self.connection.lock();
        let chunks = locked.machine.drop_reader(self.id);
        let keeper =
            if locked.machine.has_callback(self.id) { None } else { locked.keep(self.id, None) };
        drop(locked);
        drop((chunks, keeper));
    }
}

/// An encoded frame of elements.
pub(super) struct Elements {
    frame: Vec<u8>,
    large: Option<Large>,
    /// The length of the elements in the frame, in bytes.
    len: usize,
}

/// The owned writing end of a stream. Dropping it ends the stream.
pub(super) struct WriteEnd {
    id: StreamId,
    connection: Arc<Connection>,
}

impl WriteEnd {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Encodes a frame of elements. `write` returns the number of elements that it has written.
    pub(super) fn encode<E: From<TooLarge>>(
        &self,
        max: usize,
        write: impl FnOnce(&mut Sink<'_>) -> Result<u32, E>,
    ) -> Result<Elements, E> {
        // Most elements are small, so one allocation suffices.
        let (mut frame, mut count, mut len) = (Vec::with_capacity(64), 0, 0);
        let writer = MessageWriter::items(&mut frame, self.id, max).message(|sink| {
            count = write(sink)?;
            len = sink.len();
            Ok::<_, E>(())
        })?;
        let large = writer.count(count).finish();
        Ok(Elements { frame, large, len })
    }

    /// Encodes a frame that stands for an element which cannot be sent.
    pub(super) fn skip(&self, error: &PipeError) -> Elements {
        let mut frame = Vec::new();
        error.write(|it, id| FrameWriter::skipped(it, id), self.id, &mut frame);
        let mut without_error = Vec::new();
        FrameWriter::skipped(&mut without_error, self.id).finish();
        let len = frame.len() - without_error.len();
        Elements { frame, large: None, len }
    }

    /// Sends elements if the reader has room for them. Otherwise returns `false` and leaves the
    /// elements in place.
    pub(super) fn try_send(&self, elements: &mut Option<Elements>) -> Result<bool, PipeError> {
        let mut locked = self.connection.lock();
        match locked.machine.send_status(self.id) {
            SendStatus::Room(_) => {}
            SendStatus::Full => return Ok(false),
            SendStatus::Ended => return Ok(true),
            SendStatus::Closed(why) => {
                let kind = match why {
                    WriteClosed::ReaderGone => PipeErrorKind::ReaderGone,
                    WriteClosed::Lost => PipeErrorKind::from(&*locked.loss()),
                };
                return Err(PipeError::new(self.connection.worker(), kind));
            }
        }
        let Some(Elements { frame, large, len }) = elements.take() else { return Ok(true) };
        let transmit = match large {
            Some(large) => {
                locked.machine.send_large_element(self.id, large, len);
                None
            }
            None => locked.machine.send_elements(self.id, frame, len, Instant::now()),
        };
        drop(locked);
        if let Some(transmit) = transmit {
            self.connection.write_now(transmit);
        }
        Ok(true)
    }

    /// Waits until all elements are written to the socket, so that the reader gets them even if this
    /// process dies.
    #[cfg(feature = "pool")]
    pub(super) fn poll_flushed(&self, cx: &Context<'_>) -> Poll<()> {
        let last = self.connection.lock().machine.last_elements(self.id);
        self.connection.poll_written(last, cx)
    }

    /// Sends elements as soon as the reader has room for them.
    pub(super) fn poll_send(
        &self,
        elements: &mut Option<Elements>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        loop {
            if self.try_send(elements)? {
                return Poll::Ready(Ok(()));
            }
            if self.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the reader has room, or is gone. Returns the room in bytes, which is 0 if the
    /// reader is gone.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<usize> {
        let mut locked = self.connection.lock();
        match locked.machine.send_status(self.id) {
            SendStatus::Full => {
                locked.machine.wait_to_send(self.id, cx.waker());
                Poll::Pending
            }
            SendStatus::Room(bytes) => Poll::Ready(bytes),
            SendStatus::Closed(_) | SendStatus::Ended => Poll::Ready(0),
        }
    }

    /// Waits until the stream is closed or ended.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut locked = self.connection.lock();
        match locked.machine.send_status(self.id) {
            SendStatus::Room(_) | SendStatus::Full => {
                locked.machine.wait_to_send(self.id, cx.waker());
                Poll::Pending
            }
            SendStatus::Closed(_) | SendStatus::Ended => Poll::Ready(()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        let status = self.connection.lock().machine.send_status(self.id);
        matches!(status, SendStatus::Closed(_) | SendStatus::Ended)
    }

    /// Returns the number of bytes for which the reader has room.
    pub(super) fn room(&self) -> usize {
        match self.connection.lock().machine.send_status(self.id) {
            SendStatus::Room(bytes) => bytes,
            SendStatus::Full | SendStatus::Closed(_) | SendStatus::Ended => 0,
        }
    }

    /// Sends the end of the stream, unless it has ended.
    pub(super) fn end(&self, error: Option<&PipeError>) {
        // In a forked child, the connection belongs to the parent.
        if self.connection.is_inherited() {
            return;
        }
        let mut locked = self.connection.lock();
        let transmit = self.end_locked(&mut locked, error);
        drop(locked);
        if let Some(transmit) = transmit {
            self.connection.write_now(transmit);
        }
    }

    /// Ends the stream, unless it has ended. Returns the bytes that must be written at once.
    fn end_locked(&self, locked: &mut Locked<'_>, error: Option<&PipeError>) -> Option<Transmit> {
        if !locked.machine.is_open(self.id) {
            return None;
        }
        let mut frame = Vec::new();
        match error {
            None => FrameWriter::end(&mut frame, self.id).finish(),
            Some(error) => error.write(|it, id| FrameWriter::end(it, id), self.id, &mut frame),
        }
        let at_once = locked.machine.is_idle();
        locked.machine.end_stream(self.id, &frame);
        if at_once { locked.machine.transmit() } else { None }
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        if self.connection.is_inherited() {
            return;
        }
        let cut_short = panics::cut_short().map(|kind| PipeError::new(None, kind));
        let mut locked = self.connection.lock();
        let transmit = self.end_locked(&mut locked, cut_short.as_ref());
        locked.machine.drop_writer(self.id);
        drop(locked);
        if let Some(transmit) = transmit {
            self.connection.write_now(transmit);
        }
    }
}

impl fmt::Debug for ReadEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadEnd").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteEnd").field("id", &self.id).finish_non_exhaustive()
    }
}
