//! The open connections of this process. Their queued frames are written before a panic ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use super::shared::Connection;

static OPEN: Mutex<Vec<Weak<Connection>>> = Mutex::new(Vec::new());

/// How often a panicking thread tries to lock a connection that another thread uses.
const ATTEMPTS: usize = 1_000;

/// Adds a connection.
pub(super) fn add(connection: &Arc<Connection>) {
    let mut open = open_connections();
    // Removing closed connections only here has a constant cost for each connection.
    if open.len() == open.capacity() {
        open.retain(|it| it.strong_count() > 0);
    }
    open.push(Arc::downgrade(connection));
}

/// Writes the queued frames of all connections, as far as the sockets have room for them.
///
/// The panic hook calls it before an unhandled panic ends the process: the elements that a task has
/// sent before it panicked may still be queued, and their reader expects them.
pub(crate) fn write_queued_frames() {
    let connections: Vec<_> = open_connections().iter().filter_map(Weak::upgrade).collect();
    for connection in connections.iter().filter(|it| !it.is_inherited()) {
        // The panicking thread may hold the lock itself, so it must not wait for it.
        for _ in 0..ATTEMPTS {
            if connection.try_write_queued() {
                break;
            }
            thread::yield_now();
        }
    }
}

fn open_connections() -> MutexGuard<'static, Vec<Weak<Connection>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
