//! Spans go on in workers: what is logged there is logged here, in the span that called.

use std::fmt::{Debug, Write};
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::logs::{LogItem, Logs, forward};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, kill};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Instrument, Subscriber, debug, error, info, info_span, warn};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{Layer, Registry};

/// A worker that calls others.
#[rpc_parallel::worker]
trait Chain {
    /// Logs a line.
    async fn say(&self, line: &str);
    /// Logs a line, for nobody who waits.
    #[worker(one_way)]
    fn note(&self, line: &str);
    /// Logs a line at each level.
    fn say_at_all_levels(&self);
    /// Starts so many workers, each by the one before, and forwards the logs of the next one if so.
    async fn grow(&self, more: u32, forwards: bool) -> Result<(), AnyError>;
    /// Has the last one log a line.
    async fn say_at_the_end(&self, line: &str) -> Result<(), AnyError>;
    /// Has the last one log a line, each by a task that was spawned for it.
    async fn say_at_the_end_by_tasks(&self, line: &str) -> Result<(), AnyError>;
    /// Has its caller's server log a line.
    async fn answer(&self, to: &Worker<Link>, line: &str) -> Result<(), AnyError>;
    /// Forwards the logs of another one.
    async fn listen_to(&self, other: &Worker<Link>) -> Result<(), AnyError>;
    /// Waits until all that it forwards has come.
    async fn flush(&self);
}

#[derive(Default, WorkerState)]
struct Link {
    next: Mutex<Option<ChainClient>>,
    forwarding: Mutex<Option<(rpc_parallel::logs::Forwarding, ChainClient)>>,
}

impl Link {
    async fn next(&self) -> Option<ChainClient> {
        self.next.lock().await.clone()
    }
}

#[rpc_parallel::worker]
impl Chain for Link {
    async fn say(&self, line: &str) {
        info!(length = line.len(), "{line}");
    }

    fn note(&self, line: &str) {
        info!("{line}");
    }

    fn say_at_all_levels(&self) {
        error!("e");
        warn!(target: "elsewhere", "w");
        info!("i");
        debug!("d");
    }

    async fn grow(&self, more: u32, forwards: bool) -> Result<(), AnyError> {
        if let Some(more) = more.checked_sub(1) {
            let spawner = Link::spawner().name(format!("link-{more}"));
            let next = spawner.spawn(()).await?;
            if forwards {
                *self.forwarding.lock().await = Some((forward(&next).await?, next.clone()));
            }
            next.grow(more, forwards).await?;
            *self.next.lock().await = Some(next);
        }
        Ok(())
    }

    async fn say_at_the_end(&self, line: &str) -> Result<(), AnyError> {
        match self.next().await {
            Some(next) => next.say_at_the_end(line).instrument(info_span!("on the way")).await?,
            None => info!("{line}"),
        }
        Ok(())
    }

    async fn say_at_the_end_by_tasks(&self, line: &str) -> Result<(), AnyError> {
        match self.next().await {
            Some(next) => {
                let call = next.say_at_the_end_by_tasks(line);
                tokio::spawn(call.in_current_span()).await??;
            }
            None => info!("{line}"),
        }
        Ok(())
    }

    async fn answer(&self, to: &Worker<Link>, line: &str) -> Result<(), AnyError> {
        to.connect(()).await?.say(line).await?;
        Ok(())
    }

    async fn listen_to(&self, other: &Worker<Link>) -> Result<(), AnyError> {
        let other = other.connect(()).await?;
        *self.forwarding.lock().await = Some((forward(&other).await?, other));
        Ok(())
    }

    async fn flush(&self) {
        if let Some((forwarding, _)) = &*self.forwarding.lock().await {
            forwarding.flush().await;
        }
        if let Some(next) = self.next().await {
            let _ = next.flush().await;
        }
    }
}

/// Notes what is logged in this process: `spans|level|target|message|field=value,..`.
struct Capture(Events);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
        let spans = ctx.event_scope(event).into_iter().flat_map(Scope::from_root);
        let spans: Vec<_> = spans.map(|it| it.name().to_owned()).collect();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, rest } = fields;
        let metadata = event.metadata();
        let (level, target) = (metadata.level(), metadata.target());
        self.0.note(format!("{}|{level}|{target}|{message}|{rest}", spans.join(":")));
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => write!(self.rest, "{name}={value:?},").expect("a string takes it"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.rest, "{}={value},", field.name()).expect("a string takes it");
    }
}

/// Makes this test's thread log to where the test can see it.
fn capture() -> (Events, DefaultGuard) {
    let events = Events::default();
    let subscriber = Registry::default().with(Capture(events.clone()));
    (events, tracing::subscriber::set_default(subscriber))
}

/// Returns what was logged for workers, without their fields, sorted.
fn forwarded(events: &Events) -> Vec<String> {
    let mut lines: Vec<_> = events.list();
    lines.retain(|it| it.contains("|rpc_parallel::worker|"));
    for line in &mut lines {
        let end = line.rfind('|').expect("it was written so");
        *line = line[..end].replace("|rpc_parallel::worker|", "|");
    }
    lines.sort();
    lines
}

async fn link() -> ChainClient {
    Link::spawner().name("first").spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test(worker_logs = true)]
async fn one_line_has_the_master_log_what_its_worker_logs() {
    let (events, _guard) = capture();
    let link = link().await;
    let forwarding = forward(&link).await.expect("it has logs");

    link.say_at_all_levels().await.expect("it says it");
    link.say("hello").await.expect("it says it");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|ERROR|e", "|INFO|hello", "|INFO|i", "|WARN|w"]);
    let hello = events.begins_with("|INFO|rpc_parallel::worker|hello|").await;
    let pid = link.label().pid().expect("it has one");
    for part in [
        format!("worker=first[{pid}],"),
        format!("target={},", module_path!()),
        "spans=rpc_parallel::call{function=Chain::say worker=first},".to_owned(),
        "fields=length=5,".to_owned(),
        format!("file={},", file!()),
    ] {
        assert!(hello.contains(&part), "{part} in {hello}");
    }
    let elsewhere = events.begins_with("|WARN|rpc_parallel::worker|w|").await;
    assert!(elsewhere.contains("target=elsewhere,"), "{elsewhere}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn what_a_call_logs_is_logged_in_the_span_of_its_caller() {
    let (events, _guard) = capture();
    let link = link().await;
    let forwarding = forward(&link).await.expect("it has logs");

    let calls = ["one", "two", "three"].map(|name| {
        let link = link.clone();
        let calls = async move {
            for _ in 0..10 {
                link.say(name).await.expect("it says it");
            }
        };
        let outer = info_span!("outer");
        match name {
            "one" => calls.instrument(info_span!(parent: &outer, "one")),
            "two" => calls.instrument(info_span!(parent: &outer, "two")),
            _ => calls.instrument(tracing::Span::none()),
        }
    });
    join_all(calls).await;
    soon(forwarding.flush()).await;

    let lines = ["outer:one|INFO|one", "outer:two|INFO|two", "|INFO|three"];
    for line in lines {
        assert_eq!(forwarded(&events).iter().filter(|it| *it == line).count(), 10, "{line}");
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn what_workers_call_in_turn_is_logged_in_the_span_of_the_first_caller() {
    let (events, _guard) = capture();
    let link = link().await;
    link.grow(3, true).await.expect("they start");
    let forwarding = forward(&link).await.expect("it has logs");

    link.say_at_the_end("far").instrument(info_span!("near")).await.expect("it says it");
    soon(link.flush()).await.expect("it does");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["near|INFO|far"]);
    let far = events.begins_with("near|INFO|").await;
    let (_, spans) = far.split_once("spans=").expect("it is in some");
    let call =
        |worker| format!("rpc_parallel::call{{function=Chain::say_at_the_end worker={worker}}}");
    let way = ["first", "link-2", "link-1"].map(|it| format!("{}:on the way:", call(it)));
    assert!(spans.starts_with(&format!("{}{},", way.concat(), call("link-0"))), "{spans}");
    assert!(far.contains("worker=link-0["), "{far}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_worker_that_keeps_no_spans_hands_on_those_of_its_caller() {
    let (events, _guard) = capture();
    let spawner = Link::spawner().env("RUST_LOG", "info,rpc_parallel::call=off,spans=info");
    let link = spawner.spawn(()).await.expect("start a worker");
    link.grow(2, true).await.expect("they start");
    let forwarding = forward(&link).await.expect("it has logs");

    link.say_at_the_end_by_tasks("no").instrument(info_span!("lost")).await.expect("it says it");
    link.say("here").instrument(info_span!("near")).await.expect("it says it");
    link.say_at_the_end("far").instrument(info_span!("near")).await.expect("it says it");
    soon(link.flush()).await.expect("it does");
    soon(forwarding.flush()).await;

    // A task is told apart from its function by its span alone.
    assert_eq!(forwarded(&events), ["near|INFO|far", "near|INFO|here", "|INFO|no"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn calls_made_by_tasks_are_part_of_the_span_that_the_tasks_are_in() {
    let (events, _guard) = capture();
    let link = link().await;
    link.grow(2, true).await.expect("they start");
    let forwarding = forward(&link).await.expect("it has logs");

    let call = link.say_at_the_end_by_tasks("far").instrument(info_span!("near"));
    call.await.expect("it says it");
    soon(link.flush()).await.expect("it does");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["near|INFO|far"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn one_way_calls_are_part_of_the_span_that_they_are_made_in() {
    let (events, _guard) = capture();
    let link = link().await;
    let _forwarding = forward(&link).await.expect("it has logs");

    link.note("noted").instrument(info_span!("near")).await.expect("it is written");

    soon(events.begins_with("near|INFO|rpc_parallel::worker|noted|")).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn what_a_worker_calls_in_this_process_is_part_of_the_span_that_called_the_worker() {
    let (events, _guard) = capture();
    let link = link().await;
    let here = Link::serve(()).await.expect("serve it here");

    link.answer(&here, "back").instrument(info_span!("near")).await.expect("it says it");

    soon(events.begins_with("near:rpc_parallel::call|INFO|spans|back|")).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_record_knows_the_span_of_its_caller() {
    let (_events, _guard) = capture();
    let link = link().await;
    let mut logs = link.logs().await.expect("it has logs");
    let span = info_span!("near");

    link.say("hello").instrument(span.clone()).await.expect("it says it");
    link.say("hello").await.expect("it says it");

    let in_span = next_record(&mut logs).await;
    let in_none = next_record(&mut logs).await;
    assert_eq!(in_span.caller().and_then(|it| it.id()), span.id());
    assert!(in_none.caller().is_none());
}

async fn next_record(logs: &mut Logs) -> rpc_parallel::logs::LogRecord {
    match soon(logs.next()).await.expect("it goes on").expect("the worker lives") {
        LogItem::Record(record) => *record,
        item @ LogItem::Lagged(_) => panic!("{item}"),
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_keeps_no_worker_alive_and_ends_with_it() {
    let (events, _guard) = capture();
    let link = link().await;
    let pid = link.label().pid().expect("it has one");
    let forwarding = forward(&link).await.expect("it has logs");
    link.say("last words").await.expect("it says it");
    soon(forwarding.flush()).await;

    drop(link);

    assert!(ends(pid).await, "it ends");
    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["|INFO|last words"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_goes_on_with_the_next_process_of_a_worker_that_is_restarted() {
    let (events, _guard) = capture();
    let restart =
        RestartPolicy::on_failure().backoff(Duration::from_millis(1)..=Duration::from_millis(1));
    let link = Link::spawner().restart(restart).spawn(()).await.expect("start a worker");
    let forwarding = forward(&link).await.expect("it has logs");
    link.say("first life").await.expect("it says it");
    soon(forwarding.flush()).await;

    kill(link.label().pid().expect("it has one"));
    let say = || link.say("second life").instrument(info_span!("near"));
    // It may be on its way when the worker dies.
    while soon(say()).await.is_err() {}

    soon(events.begins_with("near|INFO|rpc_parallel::worker|second life|")).await;
    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["near|INFO|second life", "|INFO|first life"]);
    let pid = link.label().pid().expect("it has one");
    drop(link);
    assert!(ends(pid).await, "forwarding keeps no worker alive");
    soon(forwarding.flush()).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_ends_with_a_worker_that_would_be_restarted_and_is_told_to_end() {
    let (events, _guard) = capture();
    let link = Link::spawner().restart(RestartPolicy::on_failure()).spawn(()).await;
    let link = link.expect("start a worker");
    let forwarding = forward(&link).await.expect("it has logs");
    link.say("last words").await.expect("it says it");

    soon(link.shutdown()).await.expect("it ends");

    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["|INFO|last words"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_failure_is_told_in_the_span_in_which_the_worker_was_spawned() {
    let (events, _guard) = capture();
    let restart =
        RestartPolicy::on_failure().backoff(Duration::from_millis(1)..=Duration::from_millis(1));
    let spawner = Link::spawner().restart(restart);
    let spawner = spawner.on_failure(|failure| warn!("lost {:?}", failure.worker().pid()));
    let link = info_span!("near").in_scope(|| spawner.spawn(())).await.expect("start a worker");

    for _ in 0..2 {
        let pid = link.label().pid().expect("it has one");
        kill(pid);
        soon(events.begins_with(&format!("near|WARN|spans|lost Some({pid})|"))).await;
        soon(link.say("still here")).await.expect("it says it");
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_of_a_handle_are_forwarded_without_a_client() {
    let (events, _guard) = capture();
    let link = Link::spawner().start(()).await.expect("start a worker");
    let forwarding = link.logs().await.expect("it has logs").forward();

    let client = link.connect(()).await.expect("connect to it");
    client.say("hello").instrument(info_span!("near")).await.expect("it says it");
    drop(client);

    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["near|INFO|hello"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn workers_that_forward_each_other_log_nothing_twice() {
    let (events, _guard) = capture();
    let (one, other) = (Link::spawner().start(()), Link::spawner().start(()));
    let one = one.await.expect("start a worker");
    let other = other.await.expect("start a worker");
    let (client, other_client) =
        (one.connect(()).await.expect("connect"), other.connect(()).await.expect("connect"));
    client.listen_to(&other).await.expect("it listens");
    other_client.listen_to(&one).await.expect("it listens");
    let forwarding = forward(&client).await.expect("it has logs");

    client.say("hello").await.expect("it says it");
    for _ in 0..3 {
        soon(client.flush()).await.expect("it does");
        soon(other_client.flush()).await.expect("it does");
    }
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|INFO|hello"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn what_is_lost_is_a_warning() {
    let (events, _guard) = capture();
    let link = link().await;
    for _ in 0..2000 {
        link.say("hello").await.expect("it says it");
    }

    let forwarding = forward(&link).await.expect("it has logs");
    soon(forwarding.flush()).await;

    let lost = events.begins_with("|WARN|rpc_parallel::worker|log records are lost|").await;
    let (_, lost) = lost.split_once("lost=").expect("it says how many");
    let lost: usize = lost.trim_end_matches(',').parse().expect("it is a number");
    assert_eq!(forwarded(&events).len(), 1 + 2000 - lost);
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_record_that_is_too_large_to_come_is_a_warning() {
    let (events, _guard) = capture();
    let settings = Settings::default().with_max_message_size(1024).expect("a kilobyte is allowed");
    let link = Link::spawner().settings(settings).spawn(()).await.expect("start a worker");
    let forwarding = forward(&link).await.expect("it has logs");

    // With what a record says beside its message, it is more than a kilobyte.
    link.say(&"x".repeat(1000)).await.expect("it says it");
    link.say("small").await.expect("it says it");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|INFO|small", "|WARN|log records are lost"]);
    let lost = events.begins_with("|WARN|rpc_parallel::worker|log records are lost|").await;
    assert!(lost.contains("lost=1,why=an element is too large: "), "{lost}");
}
