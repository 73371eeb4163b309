//! The bound on the processes that boot at the same time.
//!
//! Without it, the start of thousands of workers would take so long for each of them that some
//! would exceed their time limits.

use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
use std::thread::available_parallelism;

/// The minimum of the bound, so that processes that wait for something delay others less.
const MINIMUM: usize = 16;

/// The number of processes that may boot at the same time on each core.
const PER_CORE: usize = 4;

struct BootSlots {
    free: Mutex<usize>,
    freed: Condvar,
}

static SLOTS: LazyLock<BootSlots> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    BootSlots { free: Mutex::new((PER_CORE * cores).max(MINIMUM)), freed: Condvar::new() }
});

/// The permission to boot, from before the start of a process until its hello or its end.
pub(super) struct BootSlot(());

impl BootSlot {
    /// Blocks until fewer processes boot than the bound allows.
    pub(super) fn acquire() -> Self {
        let free = SLOTS.freed.wait_while(SLOTS.free(), |it| *it == 0);
        *free.expect("no thread panics while it holds this lock") -= 1;
        Self(())
    }
}

impl Drop for BootSlot {
    fn drop(&mut self) {
        *SLOTS.free() += 1;
        SLOTS.freed.notify_one();
    }
}

impl BootSlots {
    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().expect("no thread panics while it holds this lock")
    }
}
