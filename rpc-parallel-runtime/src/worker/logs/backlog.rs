//! The latest log records of this process, and the followers that read them.
//!
//! A slow follower never delays the code that logs. The backlog drops its oldest records when it is
//! full, and each follower counts the records that it has missed.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::record::{LogItem, LogRecord};

/// The largest number of records that are kept.
const MAX_RECORDS: usize = 1024;

/// The largest estimated memory of the records, in bytes. The latest record is kept even if it is
/// larger.
const MAX_BYTES: usize = 512 * 1024;

/// The latest records of a process.
#[derive(Default)]
pub(super) struct Backlog(Mutex<State>);

#[derive(Default)]
struct State {
    records: VecDeque<Arc<LogRecord>>,
    /// The number of records that were dropped, all before `records`.
    dropped: u64,
    /// The estimated memory of `records`.
    bytes: usize,
    /// The followers that wait for a record, by their numbers.
    waiting: Vec<(u64, Waker)>,
    /// The number of followers that were created.
    followers: u64,
}

/// Reads all records of a backlog, from the oldest kept one.
pub(super) struct Follower {
    backlog: Arc<Backlog>,
    number: u64,
    /// The number of records that it has read or missed.
    seen: u64,
}

impl Backlog {
    /// Returns the backlog of this process.
    pub(super) fn get() -> &'static Arc<Self> {
        static BACKLOG: LazyLock<Arc<Backlog>> = LazyLock::new(Arc::default);
        &BACKLOG
    }

    /// Adds a record, and wakes the followers that wait.
    pub(super) fn add(&self, record: LogRecord) {
        let record = Arc::new(record);
        let mut state = self.state();
        state.bytes += record.size();
        state.records.push_back(record);
        let mut dropped = Vec::new();
        while state.records.len() > MAX_RECORDS
            || (state.bytes > MAX_BYTES && state.records.len() > 1)
        {
            let Some(first) = state.records.pop_front() else { break };
            state.bytes -= first.size();
            state.dropped += 1;
            dropped.push(first);
        }
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        // Done without the lock, because destructors and wakers may log.
        drop(dropped);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Returns the number of records that were added, including the dropped ones.
    pub(super) fn count(&self) -> u64 {
        let state = self.state();
        state.dropped + state.records.len() as u64
    }

    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        let mut state = self.state();
        state.followers += 1;
        Follower { backlog: self.clone(), number: state.followers, seen: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl Follower {
    /// Returns the next record, or the number of records that were dropped before it.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LogItem> {
        if let Some(item) = self.next() {
            return Poll::Ready(item);
        }
        // Cloned without the lock, because a runtime may log it.
        let waker = cx.waker().clone();
        let mut state = self.backlog.state();
        let previous = state.waiting.iter_mut().find(|it| it.0 == self.number);
        let previous = match previous {
            Some((_, known)) => Some(mem::replace(known, waker)),
            None => {
                state.waiting.push((self.number, waker));
                None
            }
        };
        drop(state);
        drop(previous);
        // A record that was added before the waker was registered has not woken this follower.
        self.next().map_or(Poll::Pending, Poll::Ready)
    }

    fn next(&mut self) -> Option<LogItem> {
        let state = self.backlog.state();
        let lost = state.dropped.saturating_sub(self.seen);
        if lost > 0 {
            self.seen = state.dropped;
            return Some(LogItem::Lagged(lost));
        }
        let at = usize::try_from(self.seen - state.dropped).ok()?;
        let record = state.records.get(at)?.clone();
        drop(state);
        self.seen += 1;
        Some(LogItem::Record(Box::new(LogRecord::clone(&record))))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.backlog.state();
        let at = state.waiting.iter().position(|it| it.0 == self.number);
        let waker = at.map(|it| state.waiting.swap_remove(it));
        drop(state);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::SystemTime;

    use tracing::Level;

    use super::super::record::Fields;
    use super::*;

    fn record(message: impl Into<String>) -> LogRecord {
        LogRecord {
            time: SystemTime::UNIX_EPOCH,
            level: Level::INFO,
            target: "test".into(),
            message: message.into(),
            fields: Fields::default(),
            file: None,
            line: None,
            spans: Vec::new(),
            lasted: None,
            worker: None,
            process: 0,
            callers: Vec::new(),
        }
    }

    /// Counts its wake-ups.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all items: `Ok` holds a message, `Err` the number of lost records.
    fn take_all(follower: &mut Follower, waker: &Waker) -> Vec<Result<String, u64>> {
        let mut cx = Context::from_waker(waker);
        let mut items = Vec::new();
        while let Poll::Ready(item) = follower.poll_next(&mut cx) {
            items.push(match item {
                LogItem::Record(record) => Ok(record.message().to_owned()),
                LogItem::Lagged(lost) => Err(lost),
            });
        }
        items
    }

    #[test]
    fn reader_begins_with_earlier_records() {
        let backlog = Arc::new(Backlog::default());
        backlog.add(record("first"));
        let mut follower = backlog.follow();
        backlog.add(record("second"));

        let items = take_all(&mut follower, Waker::noop());

        assert_eq!(items, [Ok("first".to_owned()), Ok("second".to_owned())]);
        assert_eq!(backlog.count(), 2);
    }

    #[test]
    fn records_discarded_before_read_are_counted() {
        let backlog = Arc::new(Backlog::default());
        let mut follower = backlog.follow();
        backlog.add(record("seen"));
        let before = take_all(&mut follower, Waker::noop());
        for number in 0..MAX_RECORDS + 7 {
            backlog.add(record(number.to_string()));
        }

        let items = take_all(&mut follower, Waker::noop());

        assert_eq!(before, [Ok("seen".to_owned())]);
        assert_eq!(items.len(), 1 + MAX_RECORDS);
        assert_eq!(items[..2], [Err(7), Ok("7".to_owned())]);
        assert_eq!(backlog.count(), 1 + MAX_RECORDS as u64 + 7);
    }

    #[test]
    fn memory_is_bounded_by_bytes_and_count() {
        let backlog = Arc::new(Backlog::default());
        for _ in 0..100 {
            backlog.add(record("x".repeat(MAX_BYTES / 10)));
        }
        let one = record("x".repeat(MAX_BYTES / 10)).size();

        let kept = backlog.state().records.len();
        backlog.add(record("x".repeat(2 * MAX_BYTES)));

        assert_eq!(kept, MAX_BYTES / one);
        let state = backlog.state();
        assert_eq!(state.records.len(), 1, "the last one is kept");
        assert_eq!(state.bytes, state.records[0].size());
    }

    #[test]
    fn waiting_reader_is_woken_once_and_dropped_reader_forgotten() {
        let backlog = Arc::new(Backlog::default());
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        let mut followers = [backlog.follow(), backlog.follow()];
        for (follower, woken) in followers.iter_mut().zip(&woken) {
            let waker = Waker::from(woken.clone());
            assert!(take_all(follower, &waker).is_empty());
            assert!(take_all(follower, &waker).is_empty());
        }
        let [_stays, goes] = followers;
        drop(goes);

        backlog.add(record("first"));
        backlog.add(record("second"));

        assert_eq!(woken.map(|it| it.0.load(Ordering::Relaxed)), [1, 0]);
        assert!(backlog.state().waiting.is_empty());
    }
}
