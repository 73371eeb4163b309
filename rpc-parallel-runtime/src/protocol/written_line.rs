//! Tasks that wait until a frame is written.

use std::collections::BTreeMap;

use super::waiter::Waiter;

/// Tasks that wait until a total number of frames or bytes is written.
pub(super) struct WrittenLine<W>(BTreeMap<u64, Vec<W>>);

impl<W: Waiter> WrittenLine<W> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Registers a task that waits for this total number.
    pub(super) fn wait(&mut self, number: u64, waiter: &W) {
        let waiting = self.0.entry(number).or_default();
        if !waiting.iter().any(|it| it.is_same(waiter)) {
            waiting.push(waiter.clone());
        }
    }

    /// Moves the tasks that wait for at most this total number to `woken`.
    pub(super) fn note_written(&mut self, written: u64, woken: &mut Vec<W>) {
        while let Some(entry) = self.0.first_entry()
            && *entry.key() <= written
        {
            woken.append(&mut entry.remove());
        }
    }
}
