//! Readers receive what a worker logs from `init` on. Lost records are counted, and a slow reader
//! never blocks the worker.

use std::fmt;
use std::thread;
use std::time::{Duration, SystemTime};

use rpc_parallel::error::{CallErrorKind, ControlErrorKind, PipeErrorKind};
use rpc_parallel::logs::{LogItem, LogRecord, Logs};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use tracing::{Instrument, Level, Span, debug, error, info, info_span, trace, warn};

/// Functions that log.
#[rpc_parallel::worker]
trait Logging {
    /// Logs at every level.
    fn log_at_all_levels(&self);
    /// Logs this many lines without a pause.
    fn log_lines(&self, lines: u64);
    /// Logs a line from another thread, which the function joins.
    fn log_from_thread(&self, line: &str);
    /// Logs in spans.
    async fn log_in_spans(&self, line: &str);
    /// Opens and closes a span in a target with span ends and in one without.
    fn open_spans(&self);
    /// Logs values whose `Debug` implementations log.
    fn log_nested(&self);
    /// Returns the messages of another worker before this one.
    async fn read_logs_of(
        &self,
        other: &Worker<LoggingWorker>,
        until: &str,
    ) -> Result<Vec<String>, AnyError>;
    /// Returns its process id.
    fn pid(&self) -> u32;
}

struct LoggingWorker;

impl WorkerState for LoggingWorker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let init = info_span!("init", of = "a worker");
        info!(parent: &init, answer = 42, name = "x y", "initialized");
        debug!("below the default level");
        Ok(Self)
    }
}

/// A value whose `Debug` implementation logs.
struct LogsWhenFormatted(u32);

impl fmt::Debug for LogsWhenFormatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 {
            info!(inner = ?LogsWhenFormatted(self.0 - 1), "formatting {}", self.0);
        }
        write!(f, "value {}", self.0)
    }
}

#[rpc_parallel::worker]
impl Logging for LoggingWorker {
    fn log_at_all_levels(&self) {
        error!(target: "levels", "e");
        warn!(target: "levels", "w");
        info!(target: "levels", "i");
        debug!(target: "levels", "d");
        trace!(target: "levels", "t");
    }

    fn log_lines(&self, lines: u64) {
        (0..lines).for_each(|line| info!(line, "line"));
    }

    fn log_from_thread(&self, line: &str) {
        let line = line.to_owned();
        thread::spawn(move || info!("{line}")).join().expect("the thread does not panic");
    }

    async fn log_in_spans(&self, line: &str) {
        let span = info_span!("outer", number = 1, later = tracing::field::Empty);
        let inner = info_span!(parent: &span, "inner");
        span.record("later", "known");
        span.record("number", 2);
        async { info!("{line}") }.instrument(inner).await;
    }

    fn open_spans(&self) {
        drop(info_span!(target: "ends", "one", number = 1).entered());
        drop(info_span!(target: "no_ends", "other").entered());
    }

    fn log_nested(&self) {
        let span = info_span!("span", it = tracing::field::Empty);
        span.record("it", tracing::field::debug(LogsWhenFormatted(1)));
        span.in_scope(|| warn!(it = ?LogsWhenFormatted(2), "outer"));
    }

    async fn read_logs_of(
        &self,
        other: &Worker<LoggingWorker>,
        until: &str,
    ) -> Result<Vec<String>, AnyError> {
        let logs = other.logs().await?;
        Ok(read_until(logs, until).await.iter().map(|it| it.message().to_owned()).collect())
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn next(logs: &mut Logs) -> LogItem {
    soon(logs.next()).await.expect("the logs do not end").expect("the logs do not fail")
}

async fn next_record(logs: &mut Logs) -> LogRecord {
    match next(logs).await {
        LogItem::Record(record) => *record,
        LogItem::Lagged(lost) => panic!("{lost} records are lost"),
    }
}

/// Reads until a message, and returns the records before it.
async fn read_until(mut logs: Logs, message: &str) -> Vec<LogRecord> {
    let mut records = Vec::new();
    loop {
        let record = next_record(&mut logs).await;
        if record.message() == message {
            return records;
        }
        records.push(record);
    }
}

async fn messages_until(logs: Logs, message: &str) -> Vec<String> {
    let records = read_until(logs, message).await;
    records.iter().map(|it| it.message().to_owned()).collect()
}

async fn spawn() -> LoggingClient {
    LoggingWorker::spawn_ok(()).await
}

#[rpc_parallel::test(worker_logs = true)]
async fn reader_receives_records_since_init() {
    let before = SystemTime::now();
    let client = LoggingWorker::spawner().name("logger").spawn_ok(()).await;

    let mut logs = client.logs().await.expect("the worker has logs");
    let record = next_record(&mut logs).await;

    assert_eq!((record.message(), record.level()), ("initialized", Level::INFO));
    assert!(record.fields().eq([("answer", "42"), ("name", "x y")]), "{record:?}");
    assert_eq!((record.target(), record.file()), (module_path!(), Some(file!())));
    assert!(record.line().is_some());
    assert!(before <= record.time() && record.time() <= SystemTime::now(), "{record:?}");
    assert_eq!(record.worker(), &*client.label());
    assert_eq!(record.worker().name(), Some("logger"));
    assert_eq!(record.spans().len(), 1);
    assert_eq!(record.spans()[0].to_string(), "init{of=\"a worker\"}");
    let line = record.to_string();
    assert!(line.contains("INFO logger["), "{line}");
    assert!(line.ends_with("logs: initialized answer=42 name=\"x y\""), "{line}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn all_readers_receive_same_records() {
    let client = spawn().await;
    let mut early = Vec::new();
    for _ in 0..10 {
        early.push(client.logs().await.expect("the worker has logs"));
    }

    client.log_lines(3).await.expect("the call succeeds");
    client.log_from_thread("the end").await.expect("the call succeeds");

    let late = client.logs().await.expect("the worker has logs");
    for logs in early.into_iter().chain([late]) {
        let messages = messages_until(logs, "the end").await;
        assert_eq!(messages, ["initialized", "line", "line", "line"]);
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn another_worker_can_read_logs() {
    let reader = spawn().await;
    let worker = LoggingWorker::start_ok(()).await;
    let client = worker.connect_ok().await;
    let reading = tokio::spawn(reader.read_logs_of(&worker, "the end"));

    client.log_lines(1).await.expect("the call succeeds");
    client.log_from_thread("the end").await.expect("the call succeeds");

    let messages =
        soon(reading).await.expect("the task does not panic").expect("the call succeeds");
    assert_eq!(messages, ["initialized", "line"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn idle_reader_blocks_nothing_and_gets_count_of_lost_records() {
    const LINES: u64 = 50_000;
    let client = spawn().await;
    let mut idle = client.logs().await.expect("the worker has logs");

    soon(client.log_lines(LINES)).await.expect("the call succeeds");
    client.log_from_thread("the end").await.expect("the call succeeds");

    let (mut read, mut lost, mut last) = (0, 0, None);
    loop {
        match next(&mut idle).await {
            LogItem::Lagged(more) => lost += more,
            LogItem::Record(record) if record.message() == "the end" => break,
            LogItem::Record(record) => {
                read += 1;
                last = record.field("line").map(str::to_owned).or(last);
            }
        }
    }
    assert_eq!(read + lost, 1 + LINES, "records are read or counted: {read} and {lost}");
    assert!(lost > 0, "not all records are kept");
    assert_eq!(last, Some((LINES - 1).to_string()), "the latest records are kept");
}

#[rpc_parallel::test(worker_logs = true)]
async fn late_reader_gets_count_of_discarded_records() {
    let client = spawn().await;
    client.log_lines(5000).await.expect("the call succeeds");

    let mut logs = client.logs().await.expect("the worker has logs");
    let first = next(&mut logs).await;

    let LogItem::Lagged(lost) = first else { panic!("{first}") };
    assert!((1 + 5000 - 1024..5000).contains(&lost), "{lost}");
    let record = next_record(&mut logs).await;
    assert_eq!(record.field("line"), Some(&*(lost - 1).to_string()));
}

#[rpc_parallel::test(worker_logs = true)]
async fn records_of_other_threads_arrive() {
    let client = spawn().await;
    let logs = client.logs().await.expect("the worker has logs");

    // The only thread of the worker's runtime joins the thread that logs.
    client.log_from_thread("from a thread").await.expect("the call succeeds");
    client.log_from_thread("the end").await.expect("the call succeeds");

    assert_eq!(messages_until(logs, "the end").await, ["initialized", "from a thread"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn record_lists_spans_from_outermost_to_innermost() {
    let client = LoggingWorker::spawner().name("logger").spawn_ok(()).await;
    let mut logs = client.logs().await.expect("the worker has logs");
    next_record(&mut logs).await;

    client.log_in_spans("in spans").await.expect("the call succeeds");

    let record = next_record(&mut logs).await;
    assert_eq!(record.message(), "in spans");
    let [call, outer, inner] = record.spans() else { panic!("{record:?}") };
    assert_eq!(call.name(), "rpc_parallel::call");
    assert_eq!(call.field("function"), Some("Logging::log_in_spans"));
    assert_eq!(call.field("worker"), Some("logger"));
    assert_eq!(outer.to_string(), "outer{number=2 later=known}");
    assert_eq!(inner.to_string(), "inner");
}

#[rpc_parallel::test(worker_logs = true)]
async fn rust_log_filters_records() {
    let spawner =
        LoggingWorker::spawner().env("RUST_LOG", "warn,levels=debug,rpc_parallel::call=off");
    let client = spawner.spawn_ok(()).await;
    let logs = client.logs().await.expect("the worker has logs");

    client.log_at_all_levels().await.expect("the call succeeds");
    client.log_lines(3).await.expect("the call succeeds");
    client.log_nested().await.expect("the call succeeds");

    let records = read_until(logs, "outer").await;
    let messages: Vec<_> = records.iter().map(LogRecord::message).collect();
    assert_eq!(messages, ["e", "w", "i", "d"]);
    assert!(records.iter().all(|it| it.spans().is_empty()), "{records:?}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn invalid_rust_log_directive_is_skipped_and_reported() {
    let spawner = LoggingWorker::spawner().env("RUST_LOG", "levels=loud, warn");
    let client = spawner.spawn_ok(()).await;
    let logs = client.logs().await.expect("the worker has logs");

    client.log_at_all_levels().await.expect("the call succeeds");
    client.log_nested().await.expect("the call succeeds");

    assert_eq!(messages_until(logs, "outer").await, ["e", "w"]);
    kill(client.label().pid().expect("the label has a pid"));
    let error = soon(client.pid()).await.expect_err("the worker was killed");
    let reported = "workers' logs ignore `levels=loud` in `RUST_LOG`";
    assert!(error.to_string().contains(reported), "{error}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn trace_level_logs_span_end() {
    let spawner = LoggingWorker::spawner().env("RUST_LOG", "info,ends=trace");
    let client = spawner.spawn_ok(()).await;
    let mut logs = client.logs().await.expect("the worker has logs");
    next_record(&mut logs).await;

    client.open_spans().await.expect("the call succeeds");
    client.log_from_thread("the end").await.expect("the call succeeds");

    let record = next_record(&mut logs).await;
    assert!(record.message().starts_with("one has ended after "), "{record}");
    assert_eq!((record.level(), record.target()), (Level::TRACE, "ends"));
    assert!(record.lasted().is_some_and(|it| it < Duration::from_secs(10)), "{record:?}");
    assert_eq!(record.spans()[1].to_string(), "one{number=1}");
    assert!(read_until(logs, "the end").await.is_empty());
}

#[rpc_parallel::test(worker_logs = true)]
async fn value_that_logs_while_formatted_is_logged() {
    let client = spawn().await;
    let logs = client.logs().await.expect("the worker has logs");

    client.log_nested().await.expect("the call succeeds");

    let messages = messages_until(logs, "outer").await;
    assert_eq!(messages, ["initialized", "formatting 1", "formatting 1", "formatting 2"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_of_killed_worker_end_with_its_failure() {
    let client = spawn().await;
    let mut logs = client.logs().await.expect("the worker has logs");
    next_record(&mut logs).await;

    kill(client.label().pid().expect("the label has a pid"));

    let error = soon(logs.next())
        .await
        .expect("the logs have an error")
        .expect_err("the worker was killed");
    assert!(matches!(error.kind(), PipeErrorKind::WorkerDied(_)), "{error:?}");
    assert!(soon(logs.next()).await.is_none());
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_keep_worker_alive_by_default() {
    let [first, second] = [spawn().await, spawn().await];
    let mut keeping = first.logs().await.expect("the worker has logs");
    let mut other = second.logs().await.expect("the worker has logs").without_keeping_alive();
    next_record(&mut other).await;

    drop((first, second));

    let error =
        soon(other.next()).await.expect("the logs have an error").expect_err("the worker ends");
    assert_eq!(error.kind(), &PipeErrorKind::ConnectionClosed, "{error:?}");
    next_record(&mut keeping).await;
    let pid = keeping.worker().pid().expect("the label has a pid");
    assert!(!rpc_parallel_tests::process::is_gone(pid));
}

#[rpc_parallel::test(worker_logs = true)]
async fn served_worker_has_logs_of_its_process() {
    let worker = LoggingWorker::serve(()).await.expect("the server starts");
    let client = worker.connect_ok().await;

    let logs = client.logs().await.expect("the worker has logs");
    assert_eq!(logs.worker().pid(), Some(std::process::id()));
    assert_eq!(client.pid().await.expect("the call succeeds"), std::process::id());
    let forwarding = logs.forward();

    // This process has no log layer and keeps no records.
    soon(forwarding.flush()).await;
    forwarding.stop();
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_of_closed_client_fail() {
    let client = spawn().await;
    client.close();

    let logs = soon(tokio::spawn(client.logs())).await.expect("the task does not panic");
    let error = logs.expect_err("the client is closed");

    let text = error.to_string();
    assert!(
        text.starts_with("failed to get the logs of worker logs::LoggingWorker (pid "),
        "{text}"
    );
    let ControlErrorKind::Call(kind) = error.kind() else { panic!("{error}") };
    assert_eq!(kind, &CallErrorKind::ConnectionClosed);
    assert!(Span::current().is_none(), "this process has no subscriber");
}
