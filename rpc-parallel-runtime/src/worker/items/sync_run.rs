//! Runs a synchronous function on the items of one batch, in a loop that costs little per item.

use std::sync::MutexGuard;
use std::time::Instant;

use bytes::Bytes;

use super::fold::Fold;
use super::item_run::ItemRun;
use super::item_scope::ItemScope;
use super::outgoing::write_refusal;
use super::pace::Pace;
use super::run_state::RunState;
use crate::connection::{Answer, AnyError, CallFailure};
use crate::wire::{Body, DecodeError, ItemReader, Outcome, PanicReport, Refusal};
use crate::worker::arguments::Arguments;

/// The items of one batch, as a synchronous function runs on them.
///
/// The loop runs in slices, between which other tasks of the runtime run:
/// [`begin_slice`](Self::begin_slice) claims the first item of a slice, and each
/// [`put`](Self::put) the next one, until the slice is over.
#[doc(hidden)]
pub struct SyncRun<'a> {
    run: &'a ItemRun,
    pace: &'a mut Pace,
    items: &'a Bytes,
    reader: ItemReader<'a>,
    /// The number of items that the reader must skip before the claimed one.
    unread: u32,
    /// The position at which the claimed item begins.
    position: usize,
    serial: u64,
    batch: u64,
    careful: bool,
    /// The item that was claimed and is not done.
    claimed: Option<u32>,
    /// The item that the next slice begins with. A closed report says that it begins.
    announced: Option<u32>,
    scope: ItemScope,
    /// The encoded result of one item.
    result: Vec<u8>,
    /// Combines the results of consecutive items.
    combine: Option<Combine<'a>>,
    fold: Option<Fold>,
    /// The accumulator and the result that are being combined.
    input: Vec<u8>,
    is_malformed: bool,
    /// Whether other tasks of the runtime should run.
    pub(super) yields: bool,
}

/// Combines an accumulator and a result. Appends the new accumulator to the buffer, up to the number
/// of bytes.
pub(super) type Combine<'a> = &'a (
        dyn Fn(&ItemScope, ItemReader<'_>, &mut Vec<u8>, usize) -> Result<Outcome, Refusal> + Sync
    );

/// A batch at the front of the queue.
pub(super) struct Front {
    pub(super) serial: u64,
    pub(super) batch: u64,
    pub(super) start: u32,
    pub(super) careful: bool,
    pub(super) items: Bytes,
}

impl Front {
    /// Returns the batch at the front of the queue, if it has this serial number.
    pub(super) fn of(run: &ItemRun, serial: u64) -> Option<Self> {
        let mut state = run.lock();
        let batch = state.queue.front().filter(|it| it.serial == serial)?;
        Some(Self {
            serial,
            batch: batch.id,
            start: batch.start,
            careful: batch.careful,
            items: batch.items.clone(),
        })
    }
}

impl<'a> SyncRun<'a> {
    pub(super) fn new(
        run: &'a ItemRun,
        pace: &'a mut Pace,
        front: &'a Front,
        combine: Option<Combine<'a>>,
    ) -> Self {
        Self {
            run,
            pace,
            items: &front.items,
            reader: ItemReader::new(Body::shared(&front.items)),
            unread: front.start,
            position: 0,
            serial: front.serial,
            batch: front.batch,
            careful: front.careful,
            claimed: None,
            announced: None,
            scope: ItemScope { scope: run.scope(), attempt: 0 },
            result: Vec::new(),
            // Each result of a careful batch is written before the next item begins.
            combine: combine.filter(|_| !front.careful),
            fold: None,
            input: Vec::new(),
            is_malformed: false,
            yields: false,
        }
    }

    /// Returns the scope of the items of this slice.
    pub(in crate::worker) fn scope(&self) -> &ItemScope {
        &self.scope
    }

    /// Returns whether the batch had fewer items than announced.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Begins a slice, if an item can begin. Returns `None` after the batch or the map has ended,
    /// and otherwise whether an item was claimed.
    pub(super) fn begin_slice(&mut self) -> Option<bool> {
        self.pace.begin_slice(Instant::now());
        self.yields = false;
        let mut state = self.run.lock();
        let batch = state.queue.front().filter(|it| it.serial == self.serial)?;
        // The rest of the batch may have been given back after its last item was done.
        if batch.is_over() {
            state.finish(self.serial, &mut self.fold);
            drop(state);
            self.run.send();
            return None;
        }
        drop(state);
        // After a panic, the next item is claimed already.
        if self.claimed.is_none() {
            self.claimed = self.announced.take().or_else(|| self.claim());
        }
        Some(self.claimed.is_some())
    }

    /// Claims the next item, if one can begin. Announces it if it is careful.
    fn claim(&mut self) -> Option<u32> {
        let mut state = self.run.lock();
        let item = self.claim_in(&mut state)?;
        if self.careful {
            state.announce(self.batch, item);
            drop(state);
            self.run.send();
        }
        Some(item)
    }

    /// Claims the next item, if one can begin, for a caller that holds the lock.
    fn claim_in(&mut self, state: &mut RunState) -> Option<u32> {
        if state.is_closed || !state.may_begin(self.careful) {
            return None;
        }
        let batch = state.queue.front().filter(|it| it.serial == self.serial)?;
        let item = batch.claim()?;
        self.scope.attempt = batch.attempt(item);
        Some(item)
    }

    /// Decodes the arguments of the claimed item. Returns `None` when the slice is over.
    #[inline]
    pub(in crate::worker) fn take<A: Arguments>(&mut self, codecs: A) -> Option<A::Owned> {
        while self.claimed.is_some() {
            while self.unread > 0 {
                if !codecs.skip_item(&mut self.reader) {
                    self.is_malformed = true;
                    return None;
                }
                self.unread -= 1;
            }
            self.position = self.reader.position();
            match codecs.decode_item(&mut self.reader) {
                Ok(arguments) => return Some(arguments),
                Err(error) => self.refuse_undecodable(error),
            }
        }
        None
    }

    /// Ends the claimed item with the result of the function, and claims the next one.
    #[inline]
    pub(in crate::worker) fn put<R, T, E: CallFailure>(
        &mut self,
        answer: Answer<R, T, E>,
        result: R,
    ) {
        self.result.clear();
        let outcome = answer.encode_item(result, &mut self.result, self.run.max_result);
        match outcome {
            Ok(Outcome::Value) if self.combine.is_some() => self.add_to_fold(),
            Ok(outcome) => self.complete(Some(outcome)),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Combines the result of the claimed item with the accumulator of those before it.
    fn add_to_fold(&mut self) {
        let (Some(combine), Some(item)) = (self.combine, self.claimed) else { return };
        let Some(fold) = &mut self.fold else {
            let result = std::mem::take(&mut self.result);
            self.fold = Some(Fold::new((self.serial, self.batch, item), result));
            return self.complete(None);
        };
        fold.write_input(&self.result, &mut self.input);
        self.result.clear();
        let input = ItemReader::new(Body::of(&self.input));
        match combine(&self.scope, input, &mut self.result, self.run.max_result) {
            Ok(Outcome::Value) => {
                fold.extend(&mut self.result);
                self.complete(None);
            }
            Ok(outcome) => self.complete(Some(outcome)),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    #[cold]
    fn refuse_undecodable(&mut self, error: DecodeError) {
        self.rewind();
        self.refuse(&Refusal::Undecodable { why: AnyError::from(error).to_string() });
    }

    /// Ends the claimed item, in which user code has panicked.
    pub(super) fn refuse_panicked(&mut self, panic: PanicReport) {
        self.run.exit_if_forked();
        self.rewind();
        self.refuse(&Refusal::Panicked(panic));
    }

    /// Returns to the beginning of the claimed item, which is then skipped.
    fn rewind(&mut self) {
        self.reader = ItemReader::at(Body::shared(self.items), self.position);
        self.unread = 1;
    }

    #[cold]
    fn refuse(&mut self, refusal: &Refusal) {
        write_refusal(refusal, &mut self.result, self.run.max_result);
        self.complete(Some(Outcome::Refused));
    }

    /// Ends the claimed item, and claims the next one. Both take place under one lock. `outcome` is
    /// `None` if the result is part of the accumulator.
    fn complete(&mut self, outcome: Option<Outcome>) {
        let Some(item) = self.claimed.take() else { return };
        let looks = self.pace.count();
        let mut guard = self.run.lock();
        let state = &mut *guard;
        if let Some(outcome) = outcome {
            if let Some(fold) = self.fold.take() {
                state.outgoing.add_fold(&fold);
            }
            state.outgoing.add_outcome(self.batch, item, outcome, &self.result);
        }
        // After the end of the map the queue is empty.
        if let Some(batch) = state.queue.front().filter(|it| it.serial == self.serial) {
            batch.running -= 1;
            batch.done += 1;
            let pauses = looks || state.attention || self.careful || self.scope.attempt > 0;
            if !pauses && !state.outgoing.is_full() {
                self.claimed = batch.claim();
                if self.claimed.is_some() {
                    return;
                }
            }
        }
        self.pause(guard);
    }

    /// Ends the batch, closes the report, or ends the slice, if any of it is due. Otherwise claims
    /// the next item.
    #[cold]
    fn pause(&mut self, mut guard: MutexGuard<'_, RunState>) {
        let now = Instant::now();
        let state = &mut *guard;
        state.attention = state.is_closed;
        self.yields = self.pace.look(now) || self.scope.attempt > 0;
        let batch = state.queue.front().filter(|it| it.serial == self.serial);
        let is_over = batch.is_none_or(|it| it.is_over());
        if is_over {
            state.finish(self.serial, &mut self.fold);
        } else if self.careful {
            // The result and the record that the next item begins leave in one report.
            if !self.yields {
                self.announced = self.claim_in(state);
            }
            match self.announced {
                Some(item) => state.announce(self.batch, item),
                None => state.close_report(),
            }
        } else {
            state.close_report_if_due(now);
        }
        drop(guard);
        self.run.send();
        // A careful item begins in a slice of its own, after the results before it were sent.
        if !is_over && !self.yields && !self.careful {
            self.claimed = self.claim();
        }
    }
}
