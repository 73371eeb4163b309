//! An item that runs.

/// An item that has begun and is not done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
    /// Identifies the batch in this process.
    pub(super) serial: u64,
    pub(super) batch: u64,
    pub(super) item: u32,
    pub(super) careful: bool,
}

#[cfg(test)]
impl Running {
    pub(super) fn first() -> Self {
        Self { serial: 0, batch: 1, item: 0, careful: false }
    }
}
