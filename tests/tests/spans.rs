//! Records of workers are forwarded to their master, in the span of the caller.

use std::fmt::{Debug, Write};
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::logs::{LogItem, Logs, forward};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, kill};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{Events, soon};
use tokio::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Instrument, Subscriber, debug, error, info, info_span, warn};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{Layer, Registry};

/// Functions that log, in this worker or in one that it has started.
#[rpc_parallel::worker]
trait Chain {
    /// Logs a line.
    async fn log(&self, line: &str);
    /// Logs a line, without an answer.
    #[worker(one_way)]
    fn note(&self, line: &str);
    /// Logs a line at each level.
    fn log_at_all_levels(&self);
    /// Starts a chain of this many workers, each started by the one before. With `forwards`, each
    /// forwards the logs of the next.
    async fn start_chain(&self, more: u32, forwards: bool) -> Result<(), AnyError>;
    /// Logs a line in the last worker of the chain.
    async fn log_at_end(&self, line: &str) -> Result<(), AnyError>;
    /// Logs a line in the last worker of the chain. Each worker calls the next in a spawned task.
    async fn log_at_end_by_tasks(&self, line: &str) -> Result<(), AnyError>;
    /// Logs a line in the server of the caller.
    async fn log_in_caller(&self, to: &Worker<ChainWorker>, line: &str) -> Result<(), AnyError>;
    /// Forwards the logs of another worker.
    async fn forward_logs_of(&self, other: &Worker<ChainWorker>) -> Result<(), AnyError>;
    /// Waits until all records of the next workers have been forwarded.
    async fn flush(&self);
}

#[derive(Default, WorkerState)]
struct ChainWorker {
    next: Mutex<Option<ChainClient>>,
    forwarding: Mutex<Option<(rpc_parallel::logs::Forwarding, ChainClient)>>,
}

impl ChainWorker {
    async fn next(&self) -> Option<ChainClient> {
        self.next.lock().await.clone()
    }
}

#[rpc_parallel::worker]
impl Chain for ChainWorker {
    async fn log(&self, line: &str) {
        info!(length = line.len(), "{line}");
    }

    fn note(&self, line: &str) {
        info!("{line}");
    }

    fn log_at_all_levels(&self) {
        error!("e");
        warn!(target: "elsewhere", "w");
        info!("i");
        debug!("d");
    }

    async fn start_chain(&self, more: u32, forwards: bool) -> Result<(), AnyError> {
        if let Some(more) = more.checked_sub(1) {
            let spawner = ChainWorker::spawner().name(format!("link-{more}"));
            let next = spawner.spawn(()).await?;
            if forwards {
                *self.forwarding.lock().await = Some((forward(&next).await?, next.clone()));
            }
            next.start_chain(more, forwards).await?;
            *self.next.lock().await = Some(next);
        }
        Ok(())
    }

    async fn log_at_end(&self, line: &str) -> Result<(), AnyError> {
        match self.next().await {
            Some(next) => next.log_at_end(line).instrument(info_span!("between")).await?,
            None => info!("{line}"),
        }
        Ok(())
    }

    async fn log_at_end_by_tasks(&self, line: &str) -> Result<(), AnyError> {
        match self.next().await {
            Some(next) => {
                let call = next.log_at_end_by_tasks(line);
                tokio::spawn(call.in_current_span()).await??;
            }
            None => info!("{line}"),
        }
        Ok(())
    }

    async fn log_in_caller(&self, to: &Worker<ChainWorker>, line: &str) -> Result<(), AnyError> {
        to.connect(()).await?.log(line).await?;
        Ok(())
    }

    async fn forward_logs_of(&self, other: &Worker<ChainWorker>) -> Result<(), AnyError> {
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

/// Notes each event of this process as `spans|level|target|message|field=value,..`.
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
            name => write!(self.rest, "{name}={value:?},").expect("writing to a string succeeds"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.rest, "{}={value},", field.name()).expect("writing to a string succeeds");
    }
}

/// Captures the events of this thread.
fn capture() -> (Events, DefaultGuard) {
    let events = Events::default();
    let subscriber = Registry::default().with(Capture(events.clone()));
    (events, tracing::subscriber::set_default(subscriber))
}

/// Returns the forwarded records without their fields, sorted.
fn forwarded(events: &Events) -> Vec<String> {
    let mut lines: Vec<_> = events.list();
    lines.retain(|it| it.contains("|rpc_parallel::worker|"));
    for line in &mut lines {
        let end = line.rfind('|').expect("`Capture` writes fields behind `|`");
        *line = line[..end].replace("|rpc_parallel::worker|", "|");
    }
    lines.sort();
    lines
}

async fn spawn() -> ChainClient {
    ChainWorker::spawner().name("first").spawn_ok(()).await
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarded_records_keep_level_target_and_fields() {
    let (events, _guard) = capture();
    let client = spawn().await;
    let forwarding = forward(&client).await.expect("the worker has logs");

    client.log_at_all_levels().await.expect("the call succeeds");
    client.log("hello").await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|ERROR|e", "|INFO|hello", "|INFO|i", "|WARN|w"]);
    let hello = events.begins_with("|INFO|rpc_parallel::worker|hello|").await;
    let pid = client.label().pid().expect("the label has a pid");
    for part in [
        format!("worker=first[{pid}],"),
        format!("target={},", module_path!()),
        "spans=rpc_parallel::call{function=Chain::log worker=first},".to_owned(),
        "fields=length=5,".to_owned(),
        format!("file={},", file!()),
    ] {
        assert!(hello.contains(&part), "{part} in {hello}");
    }
    let elsewhere = events.begins_with("|WARN|rpc_parallel::worker|w|").await;
    assert!(elsewhere.contains("target=elsewhere,"), "{elsewhere}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarded_record_is_in_span_of_caller() {
    let (events, _guard) = capture();
    let client = spawn().await;
    let forwarding = forward(&client).await.expect("the worker has logs");

    let calls = ["one", "two", "three"].map(|name| {
        let client = client.clone();
        let calls = async move {
            for _ in 0..10 {
                client.log(name).await.expect("the call succeeds");
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
async fn record_of_nested_call_is_in_span_of_first_caller() {
    let (events, _guard) = capture();
    let client = spawn().await;
    client.start_chain(3, true).await.expect("the workers start");
    let forwarding = forward(&client).await.expect("the worker has logs");

    client.log_at_end("far").instrument(info_span!("near")).await.expect("the call succeeds");
    soon(client.flush()).await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["near|INFO|far"]);
    let far = events.begins_with("near|INFO|").await;
    let (_, spans) = far.split_once("spans=").expect("the record has spans");
    let call = |worker| format!("rpc_parallel::call{{function=Chain::log_at_end worker={worker}}}");
    let path = ["first", "link-2", "link-1"].map(|it| format!("{}:between:", call(it)));
    assert!(spans.starts_with(&format!("{}{},", path.concat(), call("link-0"))), "{spans}");
    assert!(far.contains("worker=link-0["), "{far}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn worker_with_disabled_spans_passes_on_span_of_caller() {
    let (events, _guard) = capture();
    let spawner = ChainWorker::spawner().env("RUST_LOG", "info,rpc_parallel::call=off,spans=info");
    let client = spawner.spawn_ok(()).await;
    client.start_chain(2, true).await.expect("the workers start");
    let forwarding = forward(&client).await.expect("the worker has logs");

    client
        .log_at_end_by_tasks("no")
        .instrument(info_span!("lost"))
        .await
        .expect("the call succeeds");
    client.log("here").instrument(info_span!("near")).await.expect("the call succeeds");
    client.log_at_end("far").instrument(info_span!("near")).await.expect("the call succeeds");
    soon(client.flush()).await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    // Only the span of a call connects its task with its caller, and that span is off here.
    assert_eq!(forwarded(&events), ["near|INFO|far", "near|INFO|here", "|INFO|no"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn calls_of_task_belong_to_span_of_task() {
    let (events, _guard) = capture();
    let client = spawn().await;
    client.start_chain(2, true).await.expect("the workers start");
    let forwarding = forward(&client).await.expect("the worker has logs");

    let call = client.log_at_end_by_tasks("far").instrument(info_span!("near"));
    call.await.expect("the call succeeds");
    soon(client.flush()).await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["near|INFO|far"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn one_way_call_belongs_to_span_of_caller() {
    let (events, _guard) = capture();
    let client = spawn().await;
    let _forwarding = forward(&client).await.expect("the worker has logs");

    client.note("noted").instrument(info_span!("near")).await.expect("the call is sent");

    soon(events.begins_with("near|INFO|rpc_parallel::worker|noted|")).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn call_back_into_master_belongs_to_original_span() {
    let (events, _guard) = capture();
    let client = spawn().await;
    let here = ChainWorker::serve(()).await.expect("the server starts");

    client
        .log_in_caller(&here, "back")
        .instrument(info_span!("near"))
        .await
        .expect("the call succeeds");

    soon(events.begins_with("near:rpc_parallel::call|INFO|spans|back|")).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn record_holds_span_of_caller() {
    let (_events, _guard) = capture();
    let client = spawn().await;
    let mut logs = client.logs().await.expect("the worker has logs");
    let span = info_span!("near");

    client.log("hello").instrument(span.clone()).await.expect("the call succeeds");
    client.log("hello").await.expect("the call succeeds");

    let in_span = next_record(&mut logs).await;
    let in_none = next_record(&mut logs).await;
    assert_eq!(in_span.caller().and_then(|it| it.id()), span.id());
    assert!(in_none.caller().is_none());
}

async fn next_record(logs: &mut Logs) -> rpc_parallel::logs::LogRecord {
    match soon(logs.next()).await.expect("the logs do not end").expect("the logs do not fail") {
        LogItem::Record(record) => *record,
        item @ LogItem::Lagged(_) => panic!("{item}"),
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_does_not_keep_worker_alive() {
    let (events, _guard) = capture();
    let client = spawn().await;
    let pid = client.label().pid().expect("the label has a pid");
    let forwarding = forward(&client).await.expect("the worker has logs");
    client.log("last line").await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    drop(client);

    assert!(ends(pid).await, "the worker ends");
    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["|INFO|last line"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_continues_after_restart() {
    let (events, _guard) = capture();
    let restart =
        RestartPolicy::on_failure().backoff(Duration::from_millis(1)..=Duration::from_millis(1));
    let client = ChainWorker::spawner().restart(restart).spawn_ok(()).await;
    let forwarding = forward(&client).await.expect("the worker has logs");
    client.log("first process").await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    kill(client.label().pid().expect("the label has a pid"));
    let log = || client.log("second process").instrument(info_span!("near"));
    // A call fails if it is in flight when the worker fails.
    while soon(log()).await.is_err() {}

    soon(events.begins_with("near|INFO|rpc_parallel::worker|second process|")).await;
    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["near|INFO|second process", "|INFO|first process"]);
    let pid = client.label().pid().expect("the label has a pid");
    drop(client);
    assert!(ends(pid).await, "forwarding does not keep the worker alive");
    soon(forwarding.flush()).await;
}

#[rpc_parallel::test(worker_logs = true)]
async fn forwarding_ends_with_shutdown_of_restartable_worker() {
    let (events, _guard) = capture();
    let client = ChainWorker::spawner().restart(RestartPolicy::on_failure()).spawn_ok(()).await;
    let forwarding = forward(&client).await.expect("the worker has logs");
    client.log("last line").await.expect("the call succeeds");

    soon(client.shutdown()).await.expect("the worker ends");

    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["|INFO|last line"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn on_failure_runs_in_span_of_spawn() {
    let (events, _guard) = capture();
    let restart =
        RestartPolicy::on_failure().backoff(Duration::from_millis(1)..=Duration::from_millis(1));
    let spawner = ChainWorker::spawner().restart(restart);
    let spawner = spawner.on_failure(|failure| warn!("lost {:?}", failure.worker().pid()));
    let client =
        info_span!("near").in_scope(|| spawner.spawn(())).await.expect("the worker starts");

    for _ in 0..2 {
        let pid = client.label().pid().expect("the label has a pid");
        kill(pid);
        soon(events.begins_with(&format!("near|WARN|spans|lost Some({pid})|"))).await;
        soon(client.log("restarted")).await.expect("the call succeeds");
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_of_handle_are_forwarded_without_client() {
    let (events, _guard) = capture();
    let client = ChainWorker::start_ok(()).await;
    let forwarding = client.logs().await.expect("the worker has logs").forward();

    let client = client.connect_ok().await;
    client.log("hello").instrument(info_span!("near")).await.expect("the call succeeds");
    drop(client);

    soon(forwarding.flush()).await;
    assert_eq!(forwarded(&events), ["near|INFO|hello"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn workers_forwarding_each_other_log_no_record_twice() {
    let (events, _guard) = capture();
    let (one, other) = (ChainWorker::start_ok(()).await, ChainWorker::start_ok(()).await);
    let (client, other_client) = (one.connect_ok().await, other.connect_ok().await);
    client.forward_logs_of(&other).await.expect("the call succeeds");
    other_client.forward_logs_of(&one).await.expect("the call succeeds");
    let forwarding = forward(&client).await.expect("the worker has logs");

    client.log("hello").await.expect("the call succeeds");
    for _ in 0..3 {
        soon(client.flush()).await.expect("the call succeeds");
        soon(other_client.flush()).await.expect("the call succeeds");
    }
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|INFO|hello"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn lost_records_are_reported_as_warning() {
    let (events, _guard) = capture();
    let client = spawn().await;
    for _ in 0..2000 {
        client.log("hello").await.expect("the call succeeds");
    }

    let forwarding = forward(&client).await.expect("the worker has logs");
    soon(forwarding.flush()).await;

    let lost = events.begins_with("|WARN|rpc_parallel::worker|log records are lost|").await;
    let (_, lost) = lost.split_once("lost=").expect("the warning has a count");
    let lost: usize = lost.trim_end_matches(',').parse().expect("the text is a number");
    assert_eq!(forwarded(&events).len(), 1 + 2000 - lost);
}

#[rpc_parallel::test(worker_logs = true)]
async fn oversized_record_is_reported_as_warning() {
    let (events, _guard) = capture();
    let settings = Settings::default().with_max_message_size(1024);
    let client = ChainWorker::spawner().settings(settings).spawn_ok(()).await;
    let forwarding = forward(&client).await.expect("the worker has logs");

    // With its other fields the record is larger than 1024 bytes.
    client.log(&"x".repeat(1000)).await.expect("the call succeeds");
    client.log("small").await.expect("the call succeeds");
    soon(forwarding.flush()).await;

    assert_eq!(forwarded(&events), ["|INFO|small", "|WARN|log records are lost"]);
    let lost = events.begins_with("|WARN|rpc_parallel::worker|log records are lost|").await;
    assert!(lost.contains("lost=1,why=an element exceeds the limit: "), "{lost}");
}
