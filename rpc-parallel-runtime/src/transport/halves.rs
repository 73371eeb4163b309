//! The interface between a connection and its transport: a half to read from, a half to write to.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

/// Both halves of a transport.
pub(crate) type Halves = (Box<dyn Reader>, Box<dyn Writer>);

/// The half that the driver of a connection reads from.
///
/// [`Fault::of`](super::Fault::of) classifies the errors of its functions. After a transient fault
/// no bytes are lost, and the same function can be called again.
pub(crate) trait Reader: Send + 'static {
    /// Reads available bytes into the buffers, each after the previous one is full. At least one
    /// buffer must have room. Reading no bytes means that the stream has ended: the peer has
    /// ended it, or this process has [closed](Writer::close) the transport.
    ///
    /// A transport may leave bytes for the next read although the buffers have room.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Reads available bytes as [`poll_read`](Self::poll_read) does, but neither waits nor changes
    /// which task waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` means that no bytes are available, or that the transport cannot look for them
    /// without a task.
    fn try_read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let _ = buffers;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Makes the next read look for bytes itself. Otherwise it may rely on the runtime, which does
    /// not look for events in each turn of a task that keeps waking itself.
    fn look(&mut self) {}
}

/// The half that the driver of a connection and its callers write to.
///
/// [`Fault::of`](super::Fault::of) classifies the errors of its functions. After a transient fault
/// nothing was written, and the same function can be called again.
pub(crate) trait Writer: Send + Sync + 'static {
    /// Writes as many bytes of the segments as possible without waiting, in their order. At least
    /// one segment must have bytes.
    ///
    /// A transport may keep bytes until they are [flushed](Self::poll_flush). It then wakes the
    /// task that has last polled this half, so that the task flushes them.
    ///
    /// # Errors
    ///
    /// `WouldBlock` means that the transport has no free space: see
    /// [`poll_writable`](Self::poll_writable).
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until the transport has free space, after [`try_write`](Self::try_write) failed with
    /// `WouldBlock`. Only one task at a time may poll this half.
    ///
    /// # Errors
    ///
    /// The transport cannot report when it has free space.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Passes all written bytes on to the peer, and releases what is needed only to wait for free
    /// space. The driver calls it when it has no more bytes to write.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Selects whether the bytes that are written next travel with low latency, or with high
    /// throughput (the default). A transport may ignore it.
    fn prefer_latency(&self, on: bool);

    /// Returns whether the transport was created by the process from which this one was forked.
    fn is_inherited(&self) -> bool;

    /// Ends both directions of the transport, and wakes the task that reads from it. Its reader
    /// returns the end of the stream, after bytes that were received before. Flushed bytes still
    /// reach the peer.
    ///
    /// Has no effect on an [inherited](Self::is_inherited) transport.
    fn close(&self);
}
