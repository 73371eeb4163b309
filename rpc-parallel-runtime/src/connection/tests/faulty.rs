//! A transport whose reads and writes fail with the errors that a test chooses.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::ReadBuf;

use crate::connection::scripted::Halves;
use crate::transport::memory::{MemoryReader, MemoryWriter};
use crate::transport::{Reader, Writer};

/// What happens to the operations of one kind, in their order.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    next: VecDeque<Option<Errno>>,
    always: Option<Errno>,
    failures: usize,
}

impl Faults {
    /// Lets operations fail like this, once each, in order; `None` succeeds.
    pub(super) fn next(&self, faults: impl IntoIterator<Item = Option<Errno>>) {
        self.plan().next.extend(faults);
    }

    /// Lets all operations fail, after those that were planned.
    pub(super) fn begin(&self, errno: Errno) {
        self.plan().always = Some(errno);
    }

    /// Lets all operations succeed.
    pub(super) fn end(&self) {
        let mut plan = self.plan();
        plan.next.clear();
        plan.always = None;
    }

    /// Returns how many operations have failed.
    pub(super) fn failures(&self) -> usize {
        self.plan().failures
    }

    fn check(&self) -> io::Result<()> {
        let mut plan = self.plan();
        let always = plan.always;
        match plan.next.pop_front().unwrap_or(always) {
            None => Ok(()),
            Some(errno) => {
                plan.failures += 1;
                Err(errno.into())
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().expect("no test panics in here")
    }
}

/// The faults of one end.
#[derive(Clone, Default)]
pub(super) struct EndFaults {
    pub(super) reading: Faults,
    pub(super) writing: Faults,
    /// Of registering for the notice that there is room.
    pub(super) registering: Faults,
}

/// Makes one end of a transport fail.
pub(super) fn faulty((reader, writer): Halves) -> ((FaultyReader, FaultyWriter), EndFaults) {
    let faults = EndFaults::default();
    let reader = FaultyReader { reader, faults: faults.clone() };
    let writer = FaultyWriter { writer, faults: faults.clone() };
    ((reader, writer), faults)
}

pub(super) struct FaultyReader {
    reader: MemoryReader,
    faults: EndFaults,
}

pub(super) struct FaultyWriter {
    writer: MemoryWriter,
    faults: EndFaults,
}

impl Reader for FaultyReader {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What there is to read stays where it is.
        if let Err(error) = self.faults.reading.check() {
            return Poll::Ready(Err(error));
        }
        self.reader.poll_read(cx, buffer)
    }

    fn poll_read_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.faults.reading.check() {
            return Poll::Ready(Err(error));
        }
        self.reader.poll_read_both(cx, first, second)
    }
}

impl Writer for FaultyWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.faults.writing.check()?;
        self.writer.try_write(bytes)
    }

    fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.faults.writing.check()?;
        self.writer.try_write_both(first, second)
    }

    fn use_large_buffer(&self, large: bool) {
        self.writer.use_large_buffer(large);
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.faults.registering.check()?;
        ready!(self.writer.poll_writable(cx))?;
        Poll::Ready(Ok(()))
    }

    fn end(&self) {
        self.writer.end();
    }
}
