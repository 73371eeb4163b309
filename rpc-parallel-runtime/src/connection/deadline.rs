//! The deadline of the function that runs on this thread.
//!
//! Calls that the function makes inherit it.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the deadline of the function that runs on this thread.
pub(super) fn inherited() -> Option<Instant> {
    DEADLINE.get()
}

/// Runs a closure with a deadline on this thread.
pub(crate) fn within<T>(deadline: Option<Instant>, run: impl FnOnce() -> T) -> T {
    let Some(deadline) = deadline else { return run() };
    let _outer = Outer(DEADLINE.replace(Some(deadline)));
    run()
}

/// Restores the outer deadline when it is dropped, also by a panic.
struct Outer(Option<Instant>);

impl Drop for Outer {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}
