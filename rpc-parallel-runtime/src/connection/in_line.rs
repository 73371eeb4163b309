//! The place of a call that waits until its connection has room.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::{Connection, Locked};
use crate::protocol::{Line, Place};

/// A place in the line of calls that wait until the queue of a connection has room. Dropping it
/// lets the next call proceed.
pub(super) struct InLine {
    connection: Arc<Connection>,
    line: Line,
    place: Option<Place>,
}

impl InLine {
    /// Waits until a connection has room, and returns its locked state.
    pub(super) fn poll_room<'a>(
        in_line: &mut Option<Box<Self>>,
        line: Line,
        connection: &'a Arc<Connection>,
        cx: &Context<'_>,
    ) -> Poll<Locked<'a>> {
        // A place in the line of a lost connection is of no use.
        let own = in_line.take().filter(|it| Arc::ptr_eq(&it.connection, connection));
        let mut place = own.and_then(|mut it| it.place.take());
        let mut locked = connection.lock();
        if locked.lost().is_some() || locked.machine.has_room(line, &mut place, cx.waker()) {
            return Poll::Ready(locked);
        }
        drop(locked);
        *in_line = Some(Box::new(Self { connection: connection.clone(), line, place }));
        Poll::Pending
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        // In a forked child another thread of the parent may have held the lock.
        if let Some(place) = self.place.take()
            && !self.connection.is_inherited()
        {
            self.connection.lock().machine.leave_room(self.line, &place);
        }
    }
}
