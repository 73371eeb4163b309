//! A transport in memory whose operations fail with the errors that a test chooses.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;

use super::lock;
use crate::connection::scripted::Halves;
use crate::transport::memory::{MemoryReader, MemoryWriter};
use crate::transport::{Reader, Writer};

/// The injected errors of one kind of operation. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    next: VecDeque<Option<Errno>>,
    always: Option<Errno>,
    failures: usize,
}

impl Faults {
    /// Appends the results of the next operations, in order; `None` lets one succeed.
    pub(super) fn next(&self, faults: impl IntoIterator<Item = Option<Errno>>) {
        self.script().next.extend(faults);
    }

    /// Makes every operation fail after the scripted ones.
    pub(super) fn begin(&self, errno: Errno) {
        self.script().always = Some(errno);
    }

    /// Removes all faults: every further operation succeeds.
    pub(super) fn end(&self) {
        let mut script = self.script();
        script.next.clear();
        script.always = None;
    }

    /// Returns how many operations have failed.
    pub(super) fn failures(&self) -> usize {
        self.script().failures
    }

    fn check(&self) -> io::Result<()> {
        let mut script = self.script();
        let always = script.always;
        match script.next.pop_front().unwrap_or(always) {
            None => Ok(()),
            Some(errno) => {
                script.failures += 1;
                Err(errno.into())
            }
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.0)
    }
}

/// The faults of one end of a transport.
#[derive(Clone, Default)]
pub(super) struct EndFaults {
    pub(super) reading: Faults,
    pub(super) writing: Faults,
    /// Faults of registering for the notification that the transport is writable.
    pub(super) registering: Faults,
}

/// Wraps one end of a transport so that its operations fail as `EndFaults` says.
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
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        // A failed read consumes nothing: the bytes stay in the transport.
        if let Err(error) = self.faults.reading.check() {
            return Poll::Ready(Err(error));
        }
        self.reader.poll_read(cx, buffers)
    }

    fn try_read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.faults.reading.check()?;
        self.reader.try_read(buffers)
    }
}

impl Writer for FaultyWriter {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        self.faults.writing.check()?;
        self.writer.try_write(segments)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.faults.registering.check()?;
        ready!(self.writer.poll_writable(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(cx)
    }

    fn prefer_latency(&self, on: bool) {
        self.writer.prefer_latency(on);
    }

    fn is_inherited(&self) -> bool {
        self.writer.is_inherited()
    }

    fn close(&self) {
        self.writer.close();
    }
}
