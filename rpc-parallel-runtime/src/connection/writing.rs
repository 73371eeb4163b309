//! Writes the bytes of a connection to its transport.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use super::pause::Pause;
use super::shared::{Connection, try_write};
use super::traffic::Traffic;
use crate::protocol::Transmit;
use crate::transport::{Fault, Writer, wake_after_events};

/// The number of bytes of answers from which on no calls are received.
const FULL: usize = 1024 * 1024;

/// The connection can no longer be written to.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The peer reads no more. Its earlier frames are still valid, and the end of the stream is
    /// detected after all of them are read.
    PeerGone(io::Error),
    /// The socket failed, so the connection cannot continue.
    Fatal(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::PeerGone(error) | WriteError::Fatal(error) => error,
        }
    }
}

/// Writes transmits completely.
#[derive(Default)]
pub(super) struct TransmitWriter {
    /// Runs after a transient fault.
    pause: Pause,
}

impl TransmitWriter {
    /// Writes the rest of a transmit. A write that fails with a transient fault is retried after a
    /// pause, for as long as the fault lasts.
    pub(super) fn poll_write(
        &mut self,
        transmit: &mut Transmit,
        writer: &dyn Writer,
        traffic: &Traffic,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        ready!(self.pause.poll(cx));
        while !transmit.is_written() {
            let error = match try_write(writer, transmit) {
                Ok(written) => {
                    self.pause.reset();
                    transmit.advance(written);
                    traffic.sent(written);
                    continue;
                }
                Err(error) if Fault::of(&error) == Fault::NotReady => {
                    match ready!(writer.poll_writable(cx)) {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::NotReady | Fault::Transient => {
                    self.pause.begin();
                    ready!(self.pause.poll(cx));
                }
                Fault::PeerGone => return Poll::Ready(Err(WriteError::PeerGone(error))),
                Fault::Fatal => return Poll::Ready(Err(WriteError::Fatal(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Passes all written bytes on to the peer.
pub(super) fn poll_flush(
    writer: &dyn Writer,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WriteError>> {
    writer.poll_flush(cx).map_err(|error| match Fault::of(&error) {
        Fault::PeerGone => WriteError::PeerGone(error),
        _ => WriteError::Fatal(error),
    })
}

/// The writing half of the driver of a connection.
#[derive(Default)]
pub(super) struct Writing {
    writer: TransmitWriter,
    /// The bytes that are being written.
    transmit: Option<Transmit>,
    /// Whether all frames are dropped, because the peer does not read.
    is_discarding: bool,
    /// Whether the send buffer of the transport is small.
    is_buffer_small: bool,
    /// The error of [`write_some`](Self::write_some), which the next
    /// [`poll_write`](Self::poll_write) returns.
    failed: Option<WriteError>,
    /// The number of transmits that were written.
    pub(super) written: u64,
    /// Whether the connection was closing when it was locked last.
    pub(super) is_closing: bool,
    /// Whether received frames have woken tasks since the last turn of the lanes.
    pub(super) has_woken: bool,
    /// Whether the driver has just written a turn of the lanes, and small calls are sent too.
    pub(super) is_sharing: bool,
    /// Whether the queue was full when the connection was locked last.
    is_full: bool,
    /// Whether the last [`poll_write`](Self::poll_write) was pending only to let other tasks run.
    /// Then the driver runs again without being registered.
    pub(super) has_yielded: bool,
}

impl Writing {
    /// Drops all current and later frames, because the peer does not read.
    pub(super) fn discard(&mut self) {
        self.is_discarding = true;
        self.writer = TransmitWriter::default();
    }

    /// Returns whether so many answers wait that no calls should be received.
    pub(super) fn is_full(&self, connection: &Connection, answers: &[u8]) -> bool {
        // While the transport has no room, other tasks may add answers.
        let is_blocked = self.transmit.is_some();
        answers.len() >= FULL || self.is_full || is_blocked && connection.lock().machine.is_full()
    }

    /// Writes answers, and as much as the transport takes without waiting.
    pub(super) fn write_some(
        &mut self,
        connection: &Connection,
        answers: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        if let Poll::Ready(Err(error)) = self.poll_write(connection, answers, cx) {
            self.failed = Some(error);
        }
    }

    /// Writes the answers in a buffer, which it empties, and all frames. It is ready when nothing is
    /// left that the driver could write.
    ///
    /// If it is pending, the driver is woken when it can continue. If it is ready, the driver is
    /// woken when there is something to write.
    pub(super) fn poll_write(
        &mut self,
        connection: &Connection,
        answers: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        self.has_yielded = false;
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let mut next = match self.transmit.take() {
            Some(transmit) => {
                if !answers.is_empty() {
                    connection.lock_as_driver().machine.send_answers(answers);
                }
                Some(transmit)
            }
            None => self.next(connection, None, answers, cx),
        };
        while let Some(mut transmit) = next {
            if self.is_discarding {
                transmit.skip();
            }
            let written = self.writer.poll_write(
                &mut transmit,
                &*connection.writer,
                connection.traffic(),
                cx,
            );
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.transmit = Some(transmit);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    self.transmit = Some(transmit);
                    return Poll::Pending;
                }
            }
            self.written += 1;
            if transmit.is_bulk() && !self.is_discarding {
                self.is_sharing = transmit.prefers_latency();
                self.has_yielded = true;
                connection.lock().machine.take_back(transmit);
                // Other tasks of this thread run before the next turn. Otherwise a peer that reads
                // as fast as this task writes would keep the thread busy.
                match mem::take(&mut self.has_woken) {
                    true => wake_after_events(cx),
                    false => cx.waker().wake_by_ref(),
                }
                return Poll::Pending;
            }
            next = self.next(connection, Some(transmit), answers, cx);
        }
        match ready!(poll_flush(&*connection.writer, cx)) {
            Err(_) if self.is_discarding => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }

    /// Gives back a written transmit, adds answers, and takes the next bytes to write. Registers the
    /// driver if there are none.
    fn next(
        &mut self,
        connection: &Connection,
        written: Option<Transmit>,
        answers: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Option<Transmit> {
        let mut locked = connection.lock_as_driver();
        locked.machine.send_answers(answers);
        if let Some(written) = written {
            locked.machine.take_back(written);
        }
        let transmit = locked.machine.transmit();
        if transmit.is_none() {
            locked.set_driver(cx);
        }
        self.is_closing = locked.is_closing;
        self.is_full = locked.machine.is_full();
        drop(locked);
        let prefers_latency = transmit.as_ref()?.prefers_latency();
        if self.is_buffer_small != prefers_latency {
            self.is_buffer_small = prefers_latency;
            connection.writer.prefer_latency(prefers_latency);
        }
        transmit
    }
}
