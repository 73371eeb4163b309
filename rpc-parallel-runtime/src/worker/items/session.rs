//! The conversation of one map, as the items thread leads it: orders in, reports out.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep_until;

use super::item_run::ItemRun;
use super::message::{MalformedItems, Order, Record};
use super::request::MapRequest;
use super::running::Running;
use crate::connection::{AnyError, Pipe, PipeError, diagnose};
use crate::wire::Refusal;

/// The time between two looks at the items that run, if items have a timeout.
const TICK: Duration = Duration::from_millis(5);

/// How much later than due the items thread sends results. Until then, the code that runs items sends
/// them itself, between two items, without a second thread.
const RESERVE: Duration = Duration::from_micros(500);

/// The future that runs items on the runtime of the worker.
pub(crate) type Computing = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Serves one map until its master ends it. When the future resolves, none of its user code runs.
///
/// `compute` makes the future that runs the items. It runs on `runtime`.
///
/// # Errors
///
/// The function is unknown, the state of the connection failed to begin, an order was malformed, or
/// the worker has ended.
///
/// # Cancel safety
///
/// Dropping the future ends the map.
pub(crate) async fn serve_map(
    request: MapRequest,
    orders: Pipe<Bytes>,
    run: Arc<ItemRun>,
    runtime: &Handle,
    compute: impl FnOnce(MapRequest, Arc<ItemRun>) -> Computing,
) -> Result<(), Refusal> {
    let watch = Watch::new(&request);
    let computing = compute(request, run.clone());
    // Owner: this session. The task ends when the map is closed, or with the runtime.
    let computing = runtime.spawn(computing);
    let mut session = Session { orders, closing: Closing(run), computing, watch };
    let ended = session.converse().await;
    let Session { closing: Closing(run), computing, .. } = &mut session;
    run.close();
    // If the task was dropped, the worker has ended.
    let result = |it: Result<_, JoinError>| it.unwrap_or(Err(Refusal::Cancelled));
    let result = match ended {
        End::Computed(computed) => result(computed),
        End::Orders => {
            let computed = computing.await;
            // What was done before the end is still reported, if the pipe has room.
            run.report([]);
            result(computed)
        }
        End::Malformed(malformed) => {
            let _ = computing.await;
            Err(Refusal::Violation { why: AnyError::from(malformed).to_string() })
        }
    };
    if let Err(Refusal::Violation { why }) = &result {
        diagnose(format_args!("a map ends, because its master has sent a malformed order: {why}"));
    }
    result
}

struct Session {
    orders: Pipe<Bytes>,
    closing: Closing,
    computing: JoinHandle<Result<(), Refusal>>,
    watch: Watch,
}

/// Ends the map when it is dropped.
struct Closing(Arc<ItemRun>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Why a conversation ended.
enum End {
    /// The master has ended the orders.
    Orders,
    Malformed(MalformedItems),
    /// The task that runs items has ended by itself.
    Computed(Result<Result<(), Refusal>, JoinError>),
}

enum Event {
    Order(Option<Result<Bytes, PipeError>>),
    /// The pipe of the reports has room again.
    Room,
    Tick,
    Computed(Result<Result<(), Refusal>, JoinError>),
}

impl Session {
    async fn converse(&mut self) -> End {
        let Self { orders, closing: Closing(run), computing, watch } = self;
        let mut last_look = Instant::now();
        loop {
            let next_look = watch.next_look(last_look, run.last_report());
            match next_event(orders, run, computing, next_look).await {
                Event::Order(Some(Ok(order))) => match Order::decode(order) {
                    Ok(Order::Batch(batch)) => run.add(batch),
                    Ok(Order::TakeBack { most }) => run.take_back(most),
                    Err(malformed) => return End::Malformed(malformed),
                },
                Event::Order(Some(Err(_)) | None) => return End::Orders,
                Event::Room => run.send_waiting(),
                Event::Tick => {
                    let now = Instant::now();
                    // A report may have left in the meantime.
                    if now < watch.next_look(last_look, run.last_report()) {
                        continue;
                    }
                    last_look = now;
                    let running = run.tick();
                    let events = watch.look(&running, run.last_report(), now);
                    if !events.is_empty() {
                        run.report(events);
                    }
                }
                Event::Computed(computed) => return End::Computed(computed),
            }
        }
    }
}

async fn next_event(
    orders: &mut Pipe<Bytes>,
    run: &ItemRun,
    computing: &mut JoinHandle<Result<(), Refusal>>,
    next_look: Instant,
) -> Event {
    let (is_busy, takes_orders) = (run.is_busy(), run.takes_orders());
    let mut tick = pin!(sleep_until(next_look.into()));
    let mut room = pin!(run.room());
    poll_fn(|cx| {
        if takes_orders && let Poll::Ready(order) = Pin::new(&mut *orders).poll_next(cx) {
            return Poll::Ready(Event::Order(order));
        }
        if let Poll::Ready(computed) = Pin::new(&mut *computing).poll(cx) {
            return Poll::Ready(Event::Computed(computed));
        }
        if room.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Room);
        }
        if is_busy && tick.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Tick);
        }
        Poll::Pending
    })
    .await
}

/// Watches how long items run.
struct Watch {
    timeout: Option<Duration>,
    gather_time: Duration,
    report_every: Duration,
    /// The items that were running at the last look.
    observed: HashMap<Running, Observed>,
}

/// An item that runs.
struct Observed {
    /// The first look that has found it running.
    since: Instant,
    is_overdue: bool,
}

impl Watch {
    fn new(request: &MapRequest) -> Self {
        let &MapRequest { timeout, gather_time, report_every, .. } = request;
        Self { timeout, gather_time, report_every, observed: HashMap::new() }
    }

    /// Returns when to look at what runs and at what waits to be sent, after the last look.
    ///
    /// Without a timeout, there is nothing to do while reports leave in time.
    fn next_look(&self, last_look: Instant, last_report: Instant) -> Instant {
        match self.timeout {
            Some(_) => last_look + TICK,
            None => last_look.max(last_report) + self.gather_time + RESERVE,
        }
    }

    /// Notes the items that run, and returns the events to report.
    ///
    /// An item counts from the first look on that has found it running, so it is overdue up to one
    /// tick late and never early.
    fn look(
        &mut self,
        running: &HashSet<Running>,
        last_report: Instant,
        now: Instant,
    ) -> Vec<Record> {
        self.observed.retain(|it, _| running.contains(it));
        for item in running {
            self.observed.entry(*item).or_insert(Observed { since: now, is_overdue: false });
        }
        let mut events = Vec::new();
        for (item, Observed { since, is_overdue }) in &mut self.observed {
            let overdue = self.timeout.is_some_and(|it| now.duration_since(*since) >= it);
            if overdue && !std::mem::replace(is_overdue, true) {
                events.push(Record::Overdue { batch: item.batch, item: item.item });
            }
        }
        let is_silent = self.next_look(now, now) > last_report + self.report_every;
        if events.is_empty() && !running.is_empty() && is_silent {
            events.push(Record::Alive);
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FunctionId;

    const MS: Duration = Duration::from_millis(1);

    fn watch(timeout: Option<Duration>) -> Watch {
        Watch::new(&MapRequest {
            function: FunctionId(1),
            combine: None,
            concurrency: 1,
            timeout,
            gather_time: 10 * MS,
            report_every: 1000 * MS,
        })
    }

    #[test]
    fn without_timeout_next_look_is_after_results_are_due() {
        let now = Instant::now();
        let watch = watch(None);

        assert_eq!(watch.next_look(now, now + 3 * MS), now + 13 * MS + RESERVE);
        assert_eq!(watch.next_look(now + 3 * MS, now), now + 13 * MS + RESERVE);
    }

    #[test]
    fn with_timeout_items_are_observed_at_each_tick() {
        let now = Instant::now();

        assert_eq!(watch(Some(100 * MS)).next_look(now, now + 3 * MS), now + TICK);
    }

    #[test]
    fn worker_that_has_nothing_else_to_report_is_alive_before_period_ends() {
        let (now, mut watch) = (Instant::now(), watch(None));
        let running = HashSet::from([Running::first()]);

        assert_eq!(watch.look(&running, now, now + 500 * MS), []);
        assert_eq!(watch.look(&running, now, now + 990 * MS), [Record::Alive]);
        assert_eq!(watch.look(&HashSet::new(), now, now + 990 * MS), []);
    }
}
