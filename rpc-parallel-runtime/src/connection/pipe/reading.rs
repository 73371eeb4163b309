//! The owned reading end of a channel, which follows the writer to another process.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::callback::{AbortHandle, Abortable, Callback};
use super::channel::{Channel, Next};
use super::error::PipeError;
use super::pump::{self, Source};
use super::remote::{Incoming, Outgoing};

/// The owned reading end of a channel. Dropping it closes the channel.
pub(super) struct Reading<T>(ReadFrom<T>);

enum ReadFrom<T> {
    Channel(Arc<Channel<T>>),
    /// The writer is in another process.
    Remote(Box<Incoming<T>>),
    /// Another process is the reader now.
    Nothing,
}

impl<T> Reading<T> {
    pub(super) fn of(channel: Arc<Channel<T>>) -> Self {
        Self(ReadFrom::Channel(channel))
    }

    /// Returns the next element, an error or the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>> {
        loop {
            match &mut self.0 {
                ReadFrom::Remote(incoming) => return incoming.poll_next(cx),
                ReadFrom::Nothing => return Poll::Ready(None),
                ReadFrom::Channel(channel) => match ready!(channel.poll_next(cx)) {
                    Next::Item(item) => return Poll::Ready(item),
                    Next::Elsewhere(incoming) => self.0 = ReadFrom::Remote(Box::new(incoming)),
                },
            }
        }
    }

    /// Takes the source of the elements, without closing the channel.
    fn take(&mut self) -> ReadFrom<T> {
        mem::replace(&mut self.0, ReadFrom::Nothing)
    }

    /// Returns the stream of a writer in another process.
    #[cfg(feature = "tracing")]
    pub(super) fn remote(&self) -> Option<&Incoming<T>> {
        match &self.0 {
            ReadFrom::Remote(incoming) => Some(incoming),
            ReadFrom::Channel(_) | ReadFrom::Nothing => None,
        }
    }
}

impl<T: Send + 'static> Reading<T> {
    /// Calls a callback with all elements.
    pub(super) fn read_direct(mut self, callback: Callback<T>, handle: &AbortHandle) {
        match self.take() {
            ReadFrom::Channel(channel) => {
                let abortable: Arc<dyn Abortable> = channel.clone();
                handle.aborts_channel(&abortable);
                channel.read_direct(callback);
            }
            ReadFrom::Remote(incoming) => callback.read(*incoming),
            ReadFrom::Nothing => {}
        }
    }

    /// Sends all elements to another process.
    pub(super) fn send(mut self, outgoing: Outgoing<T>) {
        // If elements are buffered, the writer must not overtake them.
        if !self.bypass(&outgoing) {
            pump::start(Box::new(self), outgoing);
        }
    }
}

impl<T> Drop for Reading<T> {
    fn drop(&mut self) {
        if let ReadFrom::Channel(channel) = &self.0 {
            channel.leave();
        }
    }
}

impl<T: Send + 'static> Source<T> for Reading<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>> {
        Self::poll_next(self, cx)
    }

    fn bypass(&mut self, outgoing: &Outgoing<T>) -> bool {
        let ReadFrom::Channel(channel) = &self.0 else { return false };
        let bypasses = channel.send_idle_reader(outgoing);
        if bypasses {
            self.0 = ReadFrom::Nothing;
        }
        bypasses
    }
}
