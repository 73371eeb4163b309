//! Counters of calls, bytes, pipes and connections.
//!
//! The counters are read while functions compute, so most events are counted immediately. Only the
//! ends of calls that complete in the driver task are counted later, several at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of one process.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    calls_begun: AtomicU64,
    calls_done: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    open_pipes: AtomicU64,
    connections: AtomicU64,
}

/// The values of the counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Received calls that are pending.
    pub(crate) calls_in_flight: u64,
    /// Received calls that have ended in any way.
    pub(crate) calls_done: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) open_pipes: u64,
    /// Connections that other processes have opened.
    pub(crate) connections: u64,
}

impl Traffic {
    /// Returns the counters of this process.
    pub(crate) fn here() -> &'static Self {
        static TRAFFIC: Traffic = Traffic {
            calls_begun: AtomicU64::new(0),
            calls_done: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            open_pipes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        };
        &TRAFFIC
    }

    pub(crate) fn counts(&self) -> Counts {
        // Read first, so that a call which ends meanwhile does not make the difference negative.
        let calls_done = self.calls_done.load(Relaxed);
        Counts {
            calls_in_flight: self.calls_begun.load(Relaxed).saturating_sub(calls_done),
            calls_done,
            bytes_received: self.bytes_received.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            open_pipes: self.open_pipes.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts the change of a connection's number of open pipes.
    pub(super) fn pipes_changed(&self, before: usize, now: usize) {
        if now > before {
            self.open_pipes.fetch_add((now - before) as u64, Relaxed);
        } else if now < before {
            self.open_pipes.fetch_sub((before - now) as u64, Relaxed);
        }
    }

    pub(super) fn connection_opens(&'static self) -> CountedConnection {
        self.connections.fetch_add(1, Relaxed);
        CountedConnection(self)
    }

    pub(super) fn call_begins(&'static self) -> CountedCall {
        self.calls_begun.fetch_add(1, Relaxed);
        CountedCall(self)
    }

    /// Counts the ends of calls that were [deferred](CountedCall::end_later).
    pub(super) fn calls_ended(&self, calls: &mut u64) {
        if *calls > 0 {
            self.calls_done.fetch_add(std::mem::take(calls), Relaxed);
        }
    }
}

/// A counted call. Dropping it counts its end.
pub(super) struct CountedCall(&'static Traffic);

impl CountedCall {
    /// Ends the call, and adds it to a number that is counted later.
    pub(super) fn end_later(self, ended: &mut u64) {
        *ended += 1;
        std::mem::forget(self);
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.0.calls_done.fetch_add(1, Relaxed);
    }
}

/// A counted connection. Dropping it counts its end.
pub(super) struct CountedConnection(&'static Traffic);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
