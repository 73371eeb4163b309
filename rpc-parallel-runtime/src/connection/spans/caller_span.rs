//! The spans in which this process makes calls, by the keys that the calls carry. Calls back into
//! this process, and logs of workers, find the spans of their callers here.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep_until};
use tracing::{Span, dispatcher};

use super::callers::Callers;
use crate::transport::Origin;
use crate::wire::{MAX_SPAN_KEYS, SpanKey, Unsent, WorkerId};

/// How long a span is kept after its call while logs are read, which may arrive after the answer.
const GRACE: Duration = Duration::from_secs(2);

/// The maximum number of spans that one runtime keeps after their calls.
const MAX_ENDED: usize = 1024;

static SPANS: LazyLock<Mutex<Spans>> = LazyLock::new(Mutex::default);

/// The number of readers of workers' logs in this process.
static READERS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Spans {
    known: HashMap<u64, Span>,
    /// The spans whose calls have ended, by the runtime whose task removes them.
    ended: HashMap<runtime::Id, VecDeque<Ended>>,
}

/// A span that is removed at a time.
struct Ended {
    number: u64,
    at: Instant,
}

/// The span of the caller of a pending call.
pub(in crate::connection) struct CallerSpan(Option<u64>);

impl CallerSpan {
    /// Registers the current span, and adds its key and the keys of its callers to the frame of a
    /// call.
    pub(in crate::connection) fn begin(frame: &mut Unsent) -> Self {
        if !dispatcher::has_been_set() {
            return Self(None);
        }
        let span = Span::current();
        let callers = Callers::of_span(&span);
        let number = (!span.is_none()).then(|| remember(span));
        let own = number.map(|span| SpanKey { process: process(), span });
        let keys: Vec<_> = own.iter().chain(callers.keys()).copied().take(MAX_SPAN_KEYS).collect();
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

/// A reader of workers' logs, which may look up the spans of callers.
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

/// Returns a random number that identifies this process.
pub(crate) fn process() -> u64 {
    static PROCESS: Mutex<Option<(Origin, u64)>> = Mutex::new(None);
    let mut process = PROCESS.lock().expect("no thread panics while it holds this lock");
    // A process that was forked from this one needs another number.
    if let Some((origin, number)) = *process
        && !origin.is_other_process()
    {
        return number;
    }
    let [.., a, b, c, d, e, f, g, h] = WorkerId::random().to_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    *process = Some((Origin::here(), number));
    number
}

/// Returns the innermost of these spans that is a registered span of this process.
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

/// Removes a span, at once or after the grace period.
///
/// Dropping the last handle of a span calls subscribers. So no span is dropped while the lock is
/// held.
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
    let surplus = if ended.len() > MAX_ENDED { ended.pop_front() } else { None };
    let surplus = surplus.and_then(|it| spans.known.remove(&it.number));
    drop(spans);
    drop(surplus);
    if is_first {
        // The task ends when it has removed all ended spans, or with its runtime.
        let id = runtime.id();
        runtime.spawn(forget_all(Forgetting(id)));
    }
}

/// Removes the spans of ended calls when they are due.
async fn forget_all(forgetting: Forgetting) {
    while let Some(next) = forgetting.forget_due() {
        sleep_until(next).await;
    }
    // Another task removes spans whose calls end later.
    mem::forget(forgetting);
}

/// The task of a runtime that removes spans. If the runtime ends before the task, all of its spans
/// are removed at once, because no reader of this runtime needs them.
struct Forgetting(runtime::Id);

impl Forgetting {
    /// Removes the spans that are due. Returns when the next one is due, if there is one.
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
