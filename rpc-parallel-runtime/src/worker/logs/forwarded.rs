//! The record that a thread is forwarding. The [layer](mod@super::layer) keeps it instead of a record
//! of the forwarded event.

use std::cell::RefCell;

use tracing::Metadata;

use super::record::LogRecord;

/// The target of forwarded events.
pub(super) const TARGET: &str = "rpc_parallel::worker";

thread_local! {
    /// The record that this thread is forwarding.
    static FORWARDED: RefCell<Option<LogRecord>> = const { RefCell::new(None) };
}

/// Sets the record that this thread is forwarding, until it is dropped.
pub(super) struct Forwarded(());

impl Forwarded {
    pub(super) fn begin(record: LogRecord) -> Self {
        FORWARDED.set(Some(record));
        Self(())
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        FORWARDED.set(None);
    }
}

/// Takes the record from which a forwarded event was made; `None` for any other event.
pub(super) fn take_forwarded(metadata: &Metadata<'_>) -> Option<LogRecord> {
    if metadata.target() != TARGET {
        return None;
    }
    FORWARDED.with_borrow_mut(Option::take)
}
