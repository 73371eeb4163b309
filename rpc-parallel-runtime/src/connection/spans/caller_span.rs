//! The spans in which this process makes calls, by the keys that the calls carry: what comes back of
//! a call finds the span of its caller here.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep_until};
use tracing::{Span, dispatcher};

use super::call_span::Callers;
use crate::wire::{MOST_KEYS, SpanKey, Unsent, WorkerId};

/// How long a span stays known after its call, while somebody reads logs: they may come later than
/// the answer.
const GRACE: Duration = Duration::from_secs(2);

/// How many spans stay known after their calls, at most, in one runtime.
const MOST_ENDED: usize = 1024;

static SPANS: LazyLock<Mutex<Spans>> = LazyLock::new(Mutex::default);

/// How many read logs of workers in this process.
static READERS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Spans {
    known: HashMap<u64, Span>,
    /// Those whose calls have ended, by the runtime that has a task which forgets them in time.
    ended: HashMap<runtime::Id, VecDeque<Ended>>,
}

/// A span that is forgotten soon.
struct Ended {
    number: u64,
    at: Instant,
}

/// The span of the caller of a call that is under way.
pub(in crate::connection) struct CallerSpan(Option<u64>);

impl CallerSpan {
    pub(in crate::connection) fn none() -> Self {
        Self(None)
    }

    /// Notes in which span a call is made, and has it carry the key of this span and of those that
    /// the caller was called in.
    pub(in crate::connection) fn begin(frame: &mut Unsent) -> Self {
        if !dispatcher::has_been_set() {
            return Self::none();
        }
        let span = Span::current();
        let callers = Callers::of_span(&span);
        let number = (!span.is_none()).then(|| remember(span));
        let own = number.map(|span| SpanKey { process: process(), span });
        let keys: Vec<_> = own.iter().chain(callers.keys()).copied().take(MOST_KEYS).collect();
        if !keys.is_empty() {
            frame.set_spans(&keys);
        }
        Self(number)
    }
}

impl Drop for CallerSpan {
    fn drop(&mut self) {
        if let Some(number) = self.0 {
            end(number);
        }
    }
}

/// Somebody reads logs of workers, and may look for the spans of their callers.
pub(crate) struct Reading(());

impl Reading {
    pub(crate) fn begin() -> Self {
        READERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns a number that no other process has.
pub(crate) fn process() -> u64 {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| {
        let [.., a, b, c, d, e, f, g, h] = WorkerId::random().to_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    });
    *PROCESS
}

/// Finds the innermost of these spans that is one of this process, and still known.
pub(crate) fn find(keys: &[SpanKey]) -> Option<Span> {
    let mut own = keys.iter().filter(|it| it.process == process()).peekable();
    own.peek()?;
    let spans = spans();
    own.find_map(|it| spans.known.get(&it.span).cloned())
}

fn remember(span: Span) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    spans().known.insert(number, span);
    number
}

/// Forgets a span, or has it forgotten later.
///
/// A span that is dropped may be the last to hold it, which subscribers want to know: so none is
/// dropped while the lock is held.
fn end(number: u64) {
    let runtime = Handle::try_current().ok().filter(|_| READERS.load(Ordering::Relaxed) > 0);
    let mut spans = spans();
    let Some(runtime) = runtime else {
        let span = spans.known.remove(&number);
        drop(spans);
        return drop(span);
    };
    let is_first = !spans.ended.contains_key(&runtime.id());
    let ended = spans.ended.entry(runtime.id()).or_default();
    ended.push_back(Ended { number, at: Instant::now() + GRACE });
    let beyond = if ended.len() > MOST_ENDED { ended.pop_front() } else { None };
    let beyond = beyond.and_then(|it| spans.known.remove(&it.number));
    drop(spans);
    drop(beyond);
    if is_first {
        // It ends when it has forgotten them all, which is soon, or with its runtime.
        let id = runtime.id();
        runtime.spawn(forget_all(Forgetting(id)));
    }
}

/// Forgets the spans of calls that have ended, each in its time.
async fn forget_all(forgetting: Forgetting) {
    while let Some(next) = forgetting.forget_due() {
        sleep_until(next).await;
    }
    // What ends from here on is for the next one.
    mem::forget(forgetting);
}

/// The task of a runtime that forgets. Where the runtime ends before, nothing of it is read there
/// any more, and all is forgotten at once.
struct Forgetting(runtime::Id);

impl Forgetting {
    /// Forgets those that are due, and returns when the next one is; none if there is none.
    fn forget_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut spans = spans();
        let Spans { known, ended } = &mut *spans;
        let mut due = Vec::new();
        let queue = ended.get_mut(&self.0)?;
        let late = queue.partition_point(|it| it.at <= now);
        due.extend(queue.drain(..late).map(|it| known.remove(&it.number)));
        let next = queue.front().map(|it| it.at);
        if next.is_none() {
            ended.remove(&self.0);
        }
        drop(spans);
        drop(due);
        next
    }
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        let mut spans = spans();
        let ended = spans.ended.remove(&self.0).unwrap_or_default();
        let left: Vec<_> = ended.iter().map(|it| spans.known.remove(&it.number)).collect();
        drop(spans);
        drop(left);
    }
}

fn spans() -> MutexGuard<'static, Spans> {
    SPANS.lock().expect("no thread panics while it holds this lock")
}
