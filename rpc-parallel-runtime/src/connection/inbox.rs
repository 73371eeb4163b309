//! The received bytes of a connection that are not handled yet.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::pause::Pause;
use super::traffic::Traffic;
use super::transfers::Transfers;
use crate::transport::{Fault, Reader};
use crate::wire::{
    Body, CallId, Frame, FrameError, TransferId, find_cancels, is_of_transfer, parse, split,
    split_partial,
};

/// The minimum size of the buffer, in bytes.
const MIN_BUFFER: usize = 8 * 1024;

/// The size to which a larger buffer shrinks when it is empty, in bytes.
const KEPT_BUFFER: usize = 64 * 1024;

/// The number of bytes that a read takes in addition to the rest of a fragment.
const BESIDE: usize = 4 * 1024;

/// Buffers bytes of a transport, and splits them into frames.
///
/// The buffer grows with the received bytes, never with an announced length, and shrinks again when
/// it is empty. The fragments of large frames are reassembled here.
pub(super) struct Inbox {
    buffer: Vec<u8>,
    handled: usize,
    filled: usize,
    /// The end of the bytes that [`scan_for_cancels`](Self::scan_for_cancels) has scanned.
    scanned: usize,
    /// Whether the times of arrival are recorded, which costs a system call for each read.
    is_timed: bool,
    /// The ends of the bytes of each read, with the time of the read.
    arrivals: VecDeque<(usize, Instant)>,
    transfers: Transfers,
    /// The rest of a fragment, in bytes, which is received directly into its transfer.
    direct: Option<(TransferId, usize)>,
    /// A reassembled large frame that is not handled yet.
    whole: Option<Bytes>,
    max_message_size: usize,
    traffic: &'static Traffic,
    /// Runs after a transient fault.
    pause: Pause,
}

impl Inbox {
    pub(super) fn new(max_message_size: usize, traffic: &'static Traffic) -> Self {
        Self {
            buffer: Vec::new(),
            handled: 0,
            filled: 0,
            scanned: 0,
            is_timed: false,
            arrivals: VecDeque::new(),
            transfers: Transfers::new(max_message_size),
            direct: None,
            whole: None,
            max_message_size,
            traffic,
            pause: Pause::default(),
        }
    }

    /// Records the times of arrival from now on.
    pub(super) fn note_arrivals(&mut self) {
        self.is_timed = true;
    }

    /// Receives available bytes. Returns `false` at the end of the stream. A read that fails with a
    /// transient fault is retried after a pause.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no received byte is lost.
    pub(super) fn poll_receive(
        &mut self,
        reader: &mut dyn Reader,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        loop {
            ready!(self.pause.poll(cx));
            match ready!(self.poll_read(reader, cx)) {
                Err(error) if Fault::of(&error) == Fault::Transient => self.pause.begin(),
                received => {
                    self.pause.reset();
                    return Poll::Ready(received);
                }
            }
        }
    }

    fn poll_read(
        &mut self,
        reader: &mut dyn Reader,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        self.make_room();
        let received = match self.direct {
            None => {
                let mut space = ReadBuf::new(&mut self.buffer[self.filled..]);
                let Poll::Ready(read) = reader.poll_read(cx, &mut space) else {
                    self.transfers.poll_spare(cx);
                    return Poll::Pending;
                };
                read?;
                let received = space.filled().len();
                self.traffic.received(received);
                received
            }
            Some((transfer, left)) => {
                let fragment = self.transfers.space(transfer, left);
                let beside = &mut self.buffer[self.filled..][..BESIDE];
                let received = ready!(reader.poll_read_both(cx, fragment, beside))?;
                self.traffic.received(received);
                let direct = received.min(left);
                self.whole = self.transfers.filled(transfer, direct);
                self.direct = Some((transfer, left - direct)).filter(|(_, left)| *left > 0);
                if received == direct {
                    return Poll::Ready(Ok(received > 0));
                }
                received - direct
            }
        };
        self.filled += received;
        if self.is_timed {
            self.arrivals.push_back((self.filled, Instant::now()));
        }
        Poll::Ready(Ok(received > 0))
    }

    /// Returns the next complete frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        while self.whole.is_none() && is_of_transfer(&self.buffer[self.handled..self.filled]) {
            let received = &self.buffer[self.handled..self.filled];
            let Some((frame, len)) = split(received, self.max_message_size)? else { break };
            self.whole = match frame {
                Frame::Begin { transfer, total, bytes } => {
                    self.transfers.begin(transfer, total, bytes)?
                }
                Frame::Fragment { transfer, bytes } => self.transfers.add(transfer, bytes, 0)?,
                Frame::Abandon { transfer } => {
                    self.transfers.abandon(transfer)?;
                    None
                }
                _ => None,
            };
            self.handled += len;
        }
        if let Some(whole) = self.whole.take() {
            let whole = self.transfers.last(whole);
            return parse(Body::shared(whole)).map(Some);
        }
        let received = &self.buffer[self.handled..self.filled];
        if let Some((frame, len)) = split(received, self.max_message_size)? {
            self.handled += len;
            return Ok(Some(frame));
        }
        if let Some((transfer, bytes, left)) = split_partial(received) {
            self.transfers.add(transfer, bytes, left)?;
            self.direct = Some((transfer, left));
            self.handled = self.filled;
        }
        Ok(None)
    }

    /// Forgets all times of arrival except for that of the next frame. It is called when no frame
    /// is complete, so that a peer that sends byte by byte does not make the list grow.
    pub(super) fn forget_arrivals(&mut self) {
        if self.arrivals.len() > 1 {
            self.arrival_of_next();
            self.arrivals.truncate(1);
        }
    }

    /// Returns the number of bytes that are not handled.
    pub(super) fn waiting(&self) -> usize {
        self.filled - self.handled
    }

    /// Returns whether a large frame is being received.
    pub(super) fn is_receiving_large(&self) -> bool {
        self.transfers.is_busy()
    }

    /// Returns the time when the next frame was received.
    pub(super) fn arrival_of_next(&mut self) -> Instant {
        while self.arrivals.front().is_some_and(|(filled, _)| *filled <= self.handled) {
            self.arrivals.pop_front();
        }
        self.arrivals.front().map_or_else(Instant::now, |(_, when)| *when)
    }

    /// Scans the frames that are not handled for cancels, and adds the cancelled calls to the set.
    pub(super) fn scan_for_cancels(&mut self, cancels: &mut HashSet<CallId>) {
        self.scanned = self.scanned.max(self.handled);
        let received = &self.buffer[self.scanned..self.filled];
        self.scanned += find_cancels(received, |call| {
            cancels.insert(call);
        });
    }

    fn make_room(&mut self) {
        if self.handled == self.filled {
            (self.handled, self.filled, self.scanned) = (0, 0, 0);
            self.arrivals.clear();
            if self.buffer.len() > KEPT_BUFFER {
                self.buffer = vec![0; KEPT_BUFFER];
            }
        } else if self.handled > 0 {
            self.buffer.copy_within(self.handled..self.filled, 0);
            let handled = self.handled;
            self.arrivals.retain_mut(|(filled, _)| {
                let left = *filled > handled;
                *filled = filled.saturating_sub(handled);
                left
            });
            self.scanned = self.scanned.saturating_sub(handled);
            (self.handled, self.filled) = (0, self.filled - handled);
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize((self.filled * 2).max(MIN_BUFFER), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Writer;
    use crate::transport::memory::pair;

    #[tokio::test(start_paused = true)]
    async fn frame_received_byte_by_byte_keeps_one_arrival_time() {
        let ((mut reader, _), (_, writer)) = pair(1);
        let mut inbox = Inbox::new(1024 * 1024, Traffic::here());
        inbox.note_arrivals();
        let begun = Instant::now();

        for byte in 1000_u32.to_le_bytes().into_iter().chain([7; 900]) {
            writer.try_write(&[byte]).expect("the transport has room");
            let received = std::future::poll_fn(|cx| inbox.poll_receive(&mut reader, cx)).await;
            assert!(received.expect("a transport in memory does not fail"));
            assert!(inbox.next_frame().expect("the incomplete frame is valid").is_none());
            inbox.forget_arrivals();
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }

        assert_eq!(inbox.arrivals.len(), 1);
        assert_eq!(inbox.arrival_of_next(), begun);
    }
}
