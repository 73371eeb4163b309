//! What happens to the items of a worker that has died.

use super::lane::{Assigned, Twin};
use super::span::Span;

/// What happens to unanswered items of a dead worker.
#[derive(Debug)]
pub(super) enum Aftermath {
    /// They run again.
    Again(Span),
    /// The single item may have ended the worker, and runs again alone.
    Alone(Span),
    /// The single item fails.
    Died { span: Span },
    /// Another worker runs the item already. `blamed` says whether the death counts for it.
    Elsewhere { twin: Twin, blamed: bool },
}

/// Which items may have ended a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// The items that may have begun.
    Begun,
    /// None: the worker was killed because of an item that is answered.
    Nothing,
}

/// The rule for deaths.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultRule {
    pub(super) max_attempts: u8,
    pub(super) concurrency: u32,
}

impl FaultRule {
    /// Whether items that have ended so many workers run in a careful batch: then the unanswered
    /// items that have begun are known after a death.
    pub(super) fn is_careful(self, deaths: u8) -> bool {
        deaths > 0 || self.max_attempts == 1
    }

    /// Decides what happens to the batches of a dead worker. `Died` has counted this death.
    pub(super) fn apply(
        self,
        batches: impl IntoIterator<Item = Assigned>,
        blame: Blame,
        mut each: impl FnMut(Aftermath),
    ) {
        // Items begin in order, and at most this number of them have begun without an answer. If
        // results were not written, more have begun, but all of them in the same batches.
        let mut begun = match blame {
            Blame::Begun => self.concurrency,
            // The answered item was one of them.
            Blame::Nothing => self.concurrency - 1,
        };
        for batch in batches {
            let blamed = blame == Blame::Begun && begun > 0;
            if let Some(twin) = batch.twin
                && !batch.open.is_empty()
            {
                begun = begun.saturating_sub(1);
                each(Aftermath::Elsewhere { twin, blamed });
                continue;
            }
            // A single item that was alone is the cause, however many items may run at once.
            let is_certain = batch.alone || self.concurrency == 1;
            for range in batch.open.iter() {
                let part = |range, deaths| Span { block: batch.block.clone(), range, deaths };
                let suspects = begun.min(range.end - range.start);
                begun -= suspects;
                let (first, behind) = (range.start, range.start + suspects);
                let deaths = batch.deaths.saturating_add(1);
                if self.max_attempts == 1 {
                    for item in first..behind {
                        each(Aftermath::Died { span: part(item..item + 1, deaths) });
                    }
                    each(Aftermath::Again(part(behind..range.end, 0)));
                } else if !blamed {
                    each(Aftermath::Again(part(range, batch.deaths)));
                } else if batch.deaths == 0 {
                    each(Aftermath::Again(part(range, 1)));
                } else {
                    for item in first..behind {
                        let span = part(item..item + 1, deaths);
                        if deaths >= self.max_attempts && is_certain {
                            each(Aftermath::Died { span });
                        } else {
                            each(Aftermath::Alone(span));
                        }
                    }
                    // The batch was careful, so these have not begun.
                    each(Aftermath::Again(part(behind..range.end, 0)));
                }
            }
        }
    }
}
