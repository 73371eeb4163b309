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
    /// Whether items that have ended so many workers run in a careful batch: then the items that have
    /// begun are known after a death.
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
        let mut may_have_begun = match blame {
            Blame::Begun => self.concurrency,
            // The answered item was one of them.
            Blame::Nothing => self.concurrency - 1,
        };
        for batch in batches.into_iter().filter(|it| !it.open.is_empty()) {
            let suspects: Vec<u32> = if batch.careful {
                // No item behind a careful one begins before it has begun.
                may_have_begun = 0;
                batch.begun_items().collect()
            } else {
                batch.open.iter().flatten().take(may_have_begun as usize).collect()
            };
            may_have_begun = may_have_begun.saturating_sub(suspects.len() as u32);
            let blamed = blame == Blame::Begun && !suspects.is_empty();
            match batch.twin {
                Some(twin) => each(Aftermath::Elsewhere { twin, blamed }),
                None => self.apply_to(batch, &suspects, blamed, &mut each),
            }
        }
    }

    /// Decides what happens to a batch of which the suspects may have ended the worker.
    fn apply_to(
        self,
        batch: Assigned,
        suspects: &[u32],
        blamed: bool,
        each: &mut impl FnMut(Aftermath),
    ) {
        let Assigned { block, deaths: before, .. } = &batch;
        let part = |range, deaths| Span { block: block.clone(), range, deaths };
        let deaths = before.saturating_add(1);
        let mut others = batch.open.clone();
        let deaths_of_others = if self.max_attempts > 1 && *before == 0 && blamed {
            // Results were not written in time: the culprit may be any item of the batch.
            deaths
        } else if self.max_attempts > 1 && !blamed {
            *before
        } else {
            for &item in suspects {
                others.remove(&(item..item + 1));
                let span = part(item..item + 1, deaths);
                // A single item that was alone is the cause, however many items may run at once.
                let is_certain = batch.careful || batch.alone || self.concurrency == 1;
                if deaths >= self.max_attempts && is_certain {
                    each(Aftermath::Died { span });
                } else {
                    each(Aftermath::Alone(span));
                }
            }
            // The others have not begun.
            0
        };
        for range in others.iter() {
            each(Aftermath::Again(part(range, deaths_of_others)));
        }
    }
}
