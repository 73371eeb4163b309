//! Items that were pulled and are with no worker.

use std::collections::{BTreeMap, VecDeque};

use super::span::Span;

/// Items that were pulled and are with no worker: those of dead workers, and those given back.
/// The window of the map bounds their number.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// By the index of the first item, so that the first results of an ordered map come first.
    spans: BTreeMap<u64, Span>,
    items: u64,
    /// Single items that run alone.
    suspects: VecDeque<Span>,
}

impl Backlog {
    /// The number of items that any worker may run.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// The number of items that run alone.
    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items == 0 && self.suspects.is_empty()
    }

    pub(super) fn insert(&mut self, span: Span) {
        if span.len() > 0 {
            self.items += u64::from(span.len());
            self.spans.insert(span.first_index(), span);
        }
    }

    pub(super) fn insert_suspect(&mut self, span: Span) {
        self.suspects.push_back(span);
    }

    /// Takes up to `most` items, the first ones.
    pub(super) fn take(&mut self, most: u32) -> Option<Span> {
        let (_, mut span) = self.spans.pop_first()?;
        self.items -= u64::from(span.len());
        let rest = span.split_off(most.max(1));
        self.insert(rest);
        Some(span)
    }

    pub(super) fn take_suspect(&mut self) -> Option<Span> {
        self.suspects.pop_front()
    }
}
