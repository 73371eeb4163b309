//! Receives the bytes of a transport for the decoder of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::pause::Pause;
use super::traffic::Traffic;
use crate::protocol::Decoder;
use crate::transport::{Fault, Reader};

/// How long the buffer of a large frame is kept for the next one, because new memory is slow.
const KEPT: Duration = Duration::from_secs(1);

/// The received bytes that are not handled yet, with the times of their arrival.
pub(super) struct Inbox {
    pub(super) decoder: Decoder,
    /// The ends of the bytes of each read, with the time of the read. `None` if the times are not
    /// recorded: each costs a system call.
    arrivals: Option<VecDeque<(u64, Instant)>>,
    traffic: &'static Traffic,
    /// Runs after a transient fault.
    pause: Pause,
    /// Runs while the decoder keeps a buffer for the next large frame.
    keeping: Option<Pin<Box<Sleep>>>,
}

/// The free space of a decoder.
struct Space<'a>([IoSliceMut<'a>; 2]);

impl<'a> Space<'a> {
    /// Returns the parts that have room.
    fn parts(&mut self) -> &mut [IoSliceMut<'a>] {
        let parts = if self.0[1].is_empty() { 1 } else { 2 };
        &mut self.0[..parts]
    }
}

impl Inbox {
    pub(super) fn new(max_message_size: usize, traffic: &'static Traffic) -> Self {
        let decoder = Decoder::new(max_message_size);
        Self { decoder, arrivals: None, traffic, pause: Pause::default(), keeping: None }
    }

    /// Records the times of arrival from now on.
    pub(super) fn note_arrivals(&mut self) {
        self.arrivals = Some(VecDeque::new());
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
            match self.poll_read(reader, cx) {
                Poll::Ready(Err(error)) if Fault::of(&error) == Fault::Transient => {
                    self.pause.begin();
                }
                Poll::Ready(received) => {
                    self.pause.reset();
                    return Poll::Ready(received);
                }
                Poll::Pending => {
                    self.free_spare(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_read(
        &mut self,
        reader: &mut dyn Reader,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let received = ready!(reader.poll_read(cx, self.space().parts()))?;
        self.received(received);
        Poll::Ready(Ok(received > 0))
    }

    /// Receives available bytes without waiting, and returns their number: 0 at the end of the
    /// stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` means that no bytes are available.
    #[cfg(feature = "pool")]
    pub(super) fn try_receive(&mut self, reader: &mut dyn Reader) -> io::Result<usize> {
        let received = reader.try_read(self.space().parts())?;
        self.received(received);
        Ok(received)
    }

    /// Returns the free space of the decoder.
    fn space(&mut self) -> Space<'_> {
        Space(self.decoder.space().map(IoSliceMut::new))
    }

    /// Notes how many bytes were received.
    fn received(&mut self, received: usize) {
        if self.decoder.is_receiving_large() {
            self.keeping = None;
        }
        self.decoder.received(received);
        self.traffic.received(received);
        if let Some(arrivals) = &mut self.arrivals {
            let end = self.decoder.position() + self.decoder.waiting() as u64;
            arrivals.push_back((end, Instant::now()));
        }
    }

    /// Frees the buffer for the next large frame if it was not used for [`KEPT`].
    fn free_spare(&mut self, cx: &mut Context<'_>) {
        if !self.decoder.has_spare() {
            return;
        }
        let keeping = self.keeping.get_or_insert_with(|| Box::pin(sleep(KEPT)));
        if keeping.as_mut().poll(cx).is_ready() {
            self.decoder.free_spare();
            self.keeping = None;
        }
    }

    /// Returns the time when the next frame was received.
    pub(super) fn arrival_of_next(&mut self) -> Instant {
        let position = self.decoder.position();
        let Some(arrivals) = &mut self.arrivals else { return Instant::now() };
        while arrivals.front().is_some_and(|(end, _)| *end <= position) {
            arrivals.pop_front();
        }
        arrivals.front().map_or_else(Instant::now, |(_, when)| *when)
    }

    /// Forgets all times of arrival except for that of the next frame. It is called when no frame
    /// is complete, so that a peer that sends byte by byte does not make the list grow.
    pub(super) fn forget_arrivals(&mut self) {
        if self.arrivals.as_ref().is_some_and(|it| it.len() > 1) {
            self.arrival_of_next();
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.truncate(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

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
            writer.try_write(&[IoSlice::new(&[byte])]).expect("the transport has room");
            let received = std::future::poll_fn(|cx| inbox.poll_receive(&mut reader, cx)).await;
            assert!(received.expect("a transport in memory does not fail"));
            let frame = inbox.decoder.next_frame().expect("the incomplete frame is valid");
            assert!(frame.is_none());
            inbox.forget_arrivals();
            tokio::time::advance(Duration::from_secs(1)).await;
        }

        assert_eq!(inbox.arrivals.as_ref().map(VecDeque::len), Some(1));
        assert_eq!(inbox.arrival_of_next(), begun);
    }
}
