//! Collects results and events until they leave as a report.

use std::collections::VecDeque;

use bytes::Bytes;

use super::fold::Fold;
use super::message::{RECORD_LEN, Record, Report};
use crate::wire::{Outcome, Refusal, Settings, Sink, write_message};

/// The size from which on a report leaves, in bytes.
const FULL: usize = 32 * 1024;

/// The maximum length of what a report holds in addition to its results and records, in bytes.
const OVERHEAD: usize = 64;

/// The size of the reports that wait for the pipe from which on no item begins, in bytes.
const MAX_WAITING: usize = 1024 * 1024;

/// The results and events of a worker that the master does not have yet.
pub(super) struct Outgoing {
    results: Vec<u8>,
    records: Vec<Record>,
    /// Whether each record of results holds one accumulator.
    reduces: bool,
    /// The size from which on a report leaves.
    full: usize,
    /// The maximum size of a report.
    max: usize,
    /// Reports for which the pipe had no room. An item has at most `max` bytes, and none begins
    /// while they have [`MAX_WAITING`].
    waiting: VecDeque<Bytes>,
    waiting_len: usize,
}

/// The limit for one result, in bytes: a report with this result alone can be sent.
pub(super) fn max_result(settings: Settings) -> usize {
    settings.max_message_size() - OVERHEAD - RECORD_LEN
}

impl Outgoing {
    pub(super) fn new(settings: Settings, reduces: bool) -> Self {
        let max = settings.max_message_size() - OVERHEAD;
        Self {
            results: Vec::new(),
            records: Vec::new(),
            reduces,
            full: FULL.min(max / 2),
            max,
            waiting: VecDeque::new(),
            waiting_len: 0,
        }
    }

    /// Adds the results of the items `from..to` of a batch.
    #[inline]
    fn add_results(&mut self, batch: u64, (from, to): (u32, u32), results: &[u8]) {
        let len = results.len() as u64;
        self.make_room(results.len());
        self.results.extend_from_slice(results);
        match self.records.last_mut() {
            Some(Record::Results { batch: last, to: end, len: sum, .. })
                if (*last, *end) == (batch, from) && !self.reduces =>
            {
                *end = to;
                *sum += len;
            }
            _ => self.records.push(Record::Results { batch, from, to, len }),
        }
    }

    /// Adds an accumulator.
    pub(super) fn add_fold(&mut self, fold: &Fold) {
        self.add_results(fold.batch, (fold.from, fold.to), &fold.value);
    }

    /// Adds what the function returned for an item, or the refusal of the item.
    #[inline]
    pub(super) fn add_outcome(&mut self, batch: u64, item: u32, outcome: Outcome, bytes: &[u8]) {
        let len = bytes.len() as u64;
        let record = match outcome {
            Outcome::Value => return self.add_results(batch, (item, item + 1), bytes),
            Outcome::Error => Record::Failed { batch, item, len },
            Outcome::Refused => Record::Refused { batch, item, len },
        };
        self.make_room(bytes.len());
        self.results.extend_from_slice(bytes);
        self.records.push(record);
    }

    pub(super) fn add(&mut self, event: Record) {
        self.make_room(0);
        self.records.push(event);
    }

    /// Closes the report if `len` more bytes of results would make it too large to be sent.
    #[inline]
    fn make_room(&mut self, len: usize) {
        if self.len() + len + RECORD_LEN > self.max {
            self.close_report();
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.results.len() + self.records.len() * RECORD_LEN
    }

    /// Returns whether a report should leave because of its size.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.full
    }

    /// Returns whether a report has content that has not left.
    pub(super) fn has_report(&self) -> bool {
        !self.records.is_empty()
    }

    /// Moves the current report, if it has content, to those that wait for the pipe.
    #[cold]
    pub(super) fn close_report(&mut self) {
        if self.records.is_empty() {
            return;
        }
        // The next report is probably as large.
        let next = Vec::with_capacity(self.results.len().min(2 * self.full));
        let mut message = std::mem::replace(&mut self.results, next);
        Report::finish(&self.records, &mut message);
        self.records.clear();
        self.waiting_len += message.len();
        self.waiting.push_back(message.into());
    }

    /// Returns the next report to send, which stays the next until it was [sent](Self::note_sent).
    pub(super) fn next_report(&self) -> Option<Bytes> {
        self.waiting.front().cloned()
    }

    pub(super) fn note_sent(&mut self) {
        if let Some(sent) = self.waiting.pop_front() {
            self.waiting_len -= sent.len();
        }
    }

    /// Drops all reports, because the master does not read them.
    pub(super) fn discard(&mut self) {
        (self.results, self.records) = (Vec::new(), Vec::new());
        (self.waiting, self.waiting_len) = (VecDeque::new(), 0);
    }

    /// Returns whether reports wait for the pipe.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether so much waits for the pipe that no item should begin.
    pub(super) fn is_blocked(&self) -> bool {
        self.waiting_len >= MAX_WAITING
    }
}

/// Encodes a refusal in at most `max` bytes, if necessary without its texts.
pub(super) fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>, max: usize) {
    let without_text = || Refusal::Violation {
        why: "the reason exceeds the maximum message size of the worker".to_owned(),
    };
    for refusal in [refusal.clone(), refusal.shortened(), without_text()] {
        out.clear();
        let mut sink = Sink::new(out, max);
        write_message(&refusal, &mut sink);
        if sink.finish().is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read_message;

    fn outgoing(max: usize) -> Outgoing {
        Outgoing::new(Settings::default().with_max_message_size(max), false)
    }

    fn reports(outgoing: &mut Outgoing) -> Vec<Report> {
        outgoing.close_report();
        let mut reports = Vec::new();
        while let Some(report) = outgoing.next_report() {
            reports.push(Report::decode(report).expect("it is well formed"));
            outgoing.note_sent();
        }
        reports
    }

    #[test]
    fn results_of_consecutive_items_share_record() {
        let mut outgoing = outgoing(1 << 20);

        outgoing.add_outcome(7, 3, Outcome::Value, b"a");
        outgoing.add_outcome(7, 4, Outcome::Value, b"bc");
        outgoing.add_outcome(7, 5, Outcome::Error, b"d");
        outgoing.add_outcome(7, 6, Outcome::Value, b"e");
        outgoing.add_outcome(8, 7, Outcome::Value, b"f");

        let records = vec![
            Record::Results { batch: 7, from: 3, to: 5, len: 3 },
            Record::Failed { batch: 7, item: 5, len: 1 },
            Record::Results { batch: 7, from: 6, to: 7, len: 1 },
            Record::Results { batch: 8, from: 7, to: 8, len: 1 },
        ];
        let report = Report { results: b"abcdef"[..].into(), records };
        assert_eq!(reports(&mut outgoing), [report]);
        assert!(!outgoing.is_waiting() && outgoing.waiting_len == 0);
    }

    #[test]
    fn accumulators_of_adjacent_runs_stay_separate() {
        let mut outgoing = Outgoing::new(Settings::default(), true);
        let mut fold = Fold::new((0, 7, 3), b"a".to_vec());
        fold.extend(&mut b"b".to_vec());

        outgoing.add_fold(&fold);
        outgoing.add_outcome(7, 5, Outcome::Value, b"c");

        let records = vec![
            Record::Results { batch: 7, from: 3, to: 5, len: 1 },
            Record::Results { batch: 7, from: 5, to: 6, len: 1 },
        ];
        assert_eq!(reports(&mut outgoing), [Report { results: b"bc"[..].into(), records }]);
    }

    #[test]
    fn each_report_is_within_message_limit() {
        let max = 2000;
        let settings = Settings::default().with_max_message_size(max);
        let mut outgoing = outgoing(max);

        for item in 0..100 {
            let len = if item % 3 == 0 { max_result(settings) } else { 100 };
            outgoing.add_outcome(1, 2 * item, Outcome::Value, &vec![7; len]);
            outgoing.add(Record::Alive);
        }

        outgoing.close_report();
        let longest = outgoing.waiting.iter().map(Bytes::len).max();
        // The codec of the pipe adds at most five bytes.
        assert!(longest.is_some_and(|it| it + 5 <= max), "{longest:?}");
        let records: usize = reports(&mut outgoing).iter().map(|it| it.records.len()).sum();
        assert_eq!(records, 200);
    }

    #[test]
    fn refusal_is_shortened_to_limit() {
        let refusal = Refusal::Undecodable { why: "x".repeat(100_000) };
        let (mut long, mut short) = (Vec::new(), Vec::new());

        write_refusal(&refusal, &mut long, 50_000);
        write_refusal(&refusal, &mut short, 1000);

        assert_eq!(read_message(&long), Ok(refusal.shortened()));
        assert!(matches!(read_message(&short), Ok(Refusal::Violation { .. })));
    }
}
