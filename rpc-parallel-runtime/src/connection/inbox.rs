//! What has been received and is not handled yet.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use crate::transport::Reader;
use crate::wire::{Frame, FrameError, split};

const SMALL: usize = 8 * 1024;
const USUAL: usize = 64 * 1024;

/// Buffers bytes from a transport and hands them out as frames.
///
/// The buffer grows with what has really come, never with what a length announces, and shrinks
/// again when a large frame has been handled.
pub(super) struct Inbox {
    buffer: Vec<u8>,
    handled: usize,
    filled: usize,
    max_message_size: usize,
}

impl Inbox {
    pub(super) fn new(max_message_size: usize) -> Self {
        Self { buffer: Vec::new(), handled: 0, filled: 0, max_message_size }
    }

    /// Receives what is there; `false` when the peer has ended the stream.
    ///
    /// # Cancel safety
    ///
    /// Nothing received is lost.
    pub(super) fn poll_receive(
        &mut self,
        reader: &mut dyn Reader,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        self.make_room();
        let mut space = ReadBuf::new(&mut self.buffer[self.filled..]);
        ready!(reader.poll_read(cx, &mut space))?;
        let received = space.filled().len();
        self.filled += received;
        Poll::Ready(Ok(received > 0))
    }

    /// Returns the next complete frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let received = &self.buffer[self.handled..self.filled];
        let Some((frame, len)) = split(received, self.max_message_size)? else { return Ok(None) };
        self.handled += len;
        Ok(Some(frame))
    }

    fn make_room(&mut self) {
        if self.handled == self.filled {
            (self.handled, self.filled) = (0, 0);
            if self.buffer.len() > USUAL {
                self.buffer = vec![0; USUAL];
            }
        } else if self.handled > 0 {
            self.buffer.copy_within(self.handled..self.filled, 0);
            (self.handled, self.filled) = (0, self.filled - self.handled);
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize((self.filled * 2).max(SMALL), 0);
        }
    }
}
