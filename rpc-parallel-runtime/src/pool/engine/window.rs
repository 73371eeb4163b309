//! The bound on what was pulled and is not consumed.

/// The bound on what was pulled and is not consumed.
#[derive(Debug)]
pub(super) struct Window {
    max_items: u64,
    max_bytes: u64,
    items: u64,
    /// The bytes of items without an answer.
    waiting_bytes: u64,
    /// The bytes of results.
    result_bytes: u64,
}

impl Window {
    pub(super) fn new(max_items: u64, max_bytes: u64) -> Self {
        let (max_items, max_bytes) = (max_items.max(1), max_bytes.max(1));
        Self { max_items, max_bytes, items: 0, waiting_bytes: 0, result_bytes: 0 }
    }

    pub(super) fn pulled(&mut self, items: u64, bytes: u64) {
        self.items += items;
        self.waiting_bytes += bytes;
    }

    /// Items whose share is `bytes` were answered with `results` bytes.
    pub(super) fn answered(&mut self, bytes: u64, results: u64) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        self.result_bytes += results;
    }

    pub(super) fn consumed(&mut self, items: u64, bytes: u64) {
        self.items = self.items.saturating_sub(items);
        self.result_bytes = self.result_bytes.saturating_sub(bytes);
    }

    /// The number of items and bytes that may be pulled. Neither is zero.
    pub(super) fn room(&self) -> Option<(u64, u64)> {
        // A single item may be larger than the window.
        if self.items == 0 {
            return Some((self.max_items, self.max_bytes));
        }
        let items = self.max_items.saturating_sub(self.items);
        let bytes = self.max_bytes.saturating_sub(self.waiting_bytes + self.result_bytes);
        (items > 0 && bytes > 0).then_some((items, bytes))
    }
}
