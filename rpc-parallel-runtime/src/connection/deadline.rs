//! Until when the function that runs on this thread has time.
//!
//! Calls that it makes have no more time than it has itself.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the deadline of the function that runs on this thread.
pub(super) fn inherited() -> Option<Instant> {
    DEADLINE.get()
}

/// Runs a piece of a function that has a deadline.
pub(crate) fn within<T>(deadline: Option<Instant>, run: impl FnOnce() -> T) -> T {
    let Some(deadline) = deadline else { return run() };
    let _outer = Outer(DEADLINE.replace(Some(deadline)));
    run()
}

/// What held before; it does again when this is dropped, also by a panic.
struct Outer(Option<Instant>);

impl Drop for Outer {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}
