//! What workers log reaches whoever asks: from `init` on, counted where it is lost, and never in the
//! way of who logs.

use std::fmt;
use std::thread;
use std::time::{Duration, SystemTime};

use rpc_parallel::error::{CallErrorKind, ControlErrorKind, PipeErrorKind};
use rpc_parallel::logs::{LogItem, LogRecord, Logs};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::kill;
use rpc_parallel_tests::waiting::soon;
use tracing::{Instrument, Level, Span, debug, error, info, info_span, trace, warn};

/// A worker that talks much.
#[rpc_parallel::worker]
trait Talks {
    /// Logs at every level.
    fn say_at_all_levels(&self);
    /// Logs so many lines without a pause.
    fn say(&self, lines: u64);
    /// Logs from a thread of its own, while this one waits for it.
    fn say_from_a_thread(&self, line: &str);
    /// Logs in spans.
    async fn say_in_spans(&self, line: &str);
    /// Opens a span at each level, and closes it.
    fn open_spans(&self);
    /// Logs a value that logs itself when it is written out.
    fn say_what_says(&self);
    /// Reads the log of another one, as far as this message.
    async fn listen_to(&self, other: &Worker<Talker>, until: &str)
    -> Result<Vec<String>, AnyError>;
    /// Returns its process id.
    fn pid(&self) -> u32;
}

struct Talker;

impl WorkerState for Talker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let init = info_span!("init", of = "a talker");
        info!(parent: &init, answer = 42, name = "x y", "it begins");
        debug!("nobody wants this");
        Ok(Self)
    }
}

/// Logs when it is written out.
struct Speaks(u32);

impl fmt::Debug for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 {
            info!(inner = ?Speaks(self.0 - 1), "writing {}", self.0);
        }
        write!(f, "speaks {}", self.0)
    }
}

#[rpc_parallel::worker]
impl Talks for Talker {
    fn say_at_all_levels(&self) {
        error!(target: "levels", "e");
        warn!(target: "levels", "w");
        info!(target: "levels", "i");
        debug!(target: "levels", "d");
        trace!(target: "levels", "t");
    }

    fn say(&self, lines: u64) {
        (0..lines).for_each(|line| info!(line, "said"));
    }

    fn say_from_a_thread(&self, line: &str) {
        let line = line.to_owned();
        thread::spawn(move || info!("{line}")).join().expect("it does not panic");
    }

    async fn say_in_spans(&self, line: &str) {
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

    fn say_what_says(&self) {
        let span = info_span!("span", it = tracing::field::Empty);
        span.record("it", tracing::field::debug(Speaks(1)));
        span.in_scope(|| warn!(it = ?Speaks(2), "outer"));
    }

    async fn listen_to(
        &self,
        other: &Worker<Talker>,
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
    soon(logs.next()).await.expect("it goes on").expect("the worker lives")
}

async fn next_record(logs: &mut Logs) -> LogRecord {
    match next(logs).await {
        LogItem::Record(record) => *record,
        LogItem::Lagged(lost) => panic!("{lost} records are lost"),
    }
}

/// Reads as far as a message, and returns the records before it.
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

async fn talker() -> TalksClient {
    Talker::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_reader_sees_what_was_logged_since_init() {
    let before = SystemTime::now();
    let talker = Talker::spawner().name("talker").spawn(()).await.expect("start a worker");

    let mut logs = talker.logs().await.expect("it has logs");
    let record = next_record(&mut logs).await;

    assert_eq!((record.message(), record.level()), ("it begins", Level::INFO));
    assert!(record.fields().eq([("answer", "42"), ("name", "x y")]), "{record:?}");
    assert_eq!((record.target(), record.file()), (module_path!(), Some(file!())));
    assert!(record.line().is_some());
    assert!(before <= record.time() && record.time() <= SystemTime::now(), "{record:?}");
    assert_eq!(record.worker(), &*talker.label());
    assert_eq!(record.worker().name(), Some("talker"));
    assert_eq!(record.spans().len(), 1);
    assert_eq!(record.spans()[0].to_string(), "init{of=\"a talker\"}");
    let line = record.to_string();
    assert!(line.contains("INFO talker["), "{line}");
    assert!(line.ends_with("logs: it begins answer=42 name=\"x y\""), "{line}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn any_number_of_readers_see_the_same() {
    let talker = talker().await;
    let mut early = Vec::new();
    for _ in 0..10 {
        early.push(talker.logs().await.expect("it has logs"));
    }

    talker.say(3).await.expect("it says it");
    talker.say_from_a_thread("the end").await.expect("it says it");

    let late = talker.logs().await.expect("it has logs");
    for logs in early.into_iter().chain([late]) {
        let messages = messages_until(logs, "the end").await;
        assert_eq!(messages, ["it begins", "said", "said", "said"]);
    }
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_reader_may_be_in_any_process() {
    let reader = talker().await;
    let talker = Talker::spawner().start(()).await.expect("start a worker");
    let client = talker.connect(()).await.expect("connect to it");
    let listening = tokio::spawn(reader.listen_to(&talker, "the end"));

    client.say(1).await.expect("it says it");
    client.say_from_a_thread("the end").await.expect("it says it");

    let heard = soon(listening).await.expect("it does not panic").expect("it listens");
    assert_eq!(heard, ["it begins", "said"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_lost() {
    const LINES: u64 = 50_000;
    let talker = talker().await;
    let mut idle = talker.logs().await.expect("it has logs");

    soon(talker.say(LINES)).await.expect("nobody holds it up");
    talker.say_from_a_thread("the end").await.expect("it says it");

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
    assert_eq!(read + lost, 1 + LINES, "all is read or counted: {read} and {lost}");
    assert!(lost > 0, "so much is not kept");
    assert_eq!(last, Some((LINES - 1).to_string()), "what is left is the latest");
}

#[rpc_parallel::test(worker_logs = true)]
async fn who_comes_late_is_told_what_is_not_kept_any_more() {
    let talker = talker().await;
    talker.say(5000).await.expect("it says it");

    let mut logs = talker.logs().await.expect("it has logs");
    let first = next(&mut logs).await;

    let LogItem::Lagged(lost) = first else { panic!("{first}") };
    assert!((1 + 5000 - 1024..5000).contains(&lost), "{lost}");
    let record = next_record(&mut logs).await;
    assert_eq!(record.field("line"), Some(&*(lost - 1).to_string()));
}

#[rpc_parallel::test(worker_logs = true)]
async fn records_of_any_thread_arrive() {
    let talker = talker().await;
    let logs = talker.logs().await.expect("it has logs");

    // The one thread of the worker's runtime waits for the other meanwhile.
    talker.say_from_a_thread("from a thread").await.expect("it says it");
    talker.say_from_a_thread("the end").await.expect("it says it");

    assert_eq!(messages_until(logs, "the end").await, ["it begins", "from a thread"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_record_tells_the_spans_around_it_outermost_first() {
    let talker = Talker::spawner().name("talker").spawn(()).await.expect("start a worker");
    let mut logs = talker.logs().await.expect("it has logs");
    next_record(&mut logs).await;

    talker.say_in_spans("in spans").await.expect("it says it");

    let record = next_record(&mut logs).await;
    assert_eq!(record.message(), "in spans");
    let [call, outer, inner] = record.spans() else { panic!("{record:?}") };
    assert_eq!(call.name(), "rpc_parallel::call");
    assert_eq!(call.field("function"), Some("Talks::say_in_spans"));
    assert_eq!(call.field("worker"), Some("talker"));
    assert_eq!(outer.to_string(), "outer{number=2 later=known}");
    assert_eq!(inner.to_string(), "inner");
}

#[rpc_parallel::test(worker_logs = true)]
async fn the_environment_says_what_is_logged() {
    let spawner = Talker::spawner().env("RUST_LOG", "warn,levels=debug,rpc_parallel::call=off");
    let talker = spawner.spawn(()).await.expect("start a worker");
    let logs = talker.logs().await.expect("it has logs");

    talker.say_at_all_levels().await.expect("it says it");
    talker.say(3).await.expect("it says nothing");
    talker.say_what_says().await.expect("it says it");

    let records = read_until(logs, "outer").await;
    let messages: Vec<_> = records.iter().map(LogRecord::message).collect();
    assert_eq!(messages, ["e", "w", "i", "d"]);
    assert!(records.iter().all(|it| it.spans().is_empty()), "{records:?}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_directive_that_nobody_understands_is_left_out_and_named() {
    let spawner = Talker::spawner().env("RUST_LOG", "levels=loud, warn");
    let talker = spawner.spawn(()).await.expect("start a worker");
    let logs = talker.logs().await.expect("it has logs");

    talker.say_at_all_levels().await.expect("it says it");
    talker.say_what_says().await.expect("it says it");

    assert_eq!(messages_until(logs, "outer").await, ["e", "w"]);
    kill(talker.label().pid().expect("it has one"));
    let error = soon(talker.pid()).await.expect_err("it is killed");
    let told = "workers' logs ignore `levels=loud` in `RUST_LOG`";
    assert!(error.to_string().contains(told), "{error}");
}

#[rpc_parallel::test(worker_logs = true)]
async fn the_end_of_a_span_is_told_to_who_wants_to_know_everything_of_it() {
    let spawner = Talker::spawner().env("RUST_LOG", "info,ends=trace");
    let talker = spawner.spawn(()).await.expect("start a worker");
    let mut logs = talker.logs().await.expect("it has logs");
    next_record(&mut logs).await;

    talker.open_spans().await.expect("it opens them");
    talker.say_from_a_thread("the end").await.expect("it says it");

    let record = next_record(&mut logs).await;
    assert!(record.message().starts_with("one has ended after "), "{record}");
    assert_eq!((record.level(), record.target()), (Level::TRACE, "ends"));
    assert!(record.lasted().is_some_and(|it| it < Duration::from_secs(10)), "{record:?}");
    assert_eq!(record.spans()[1].to_string(), "one{number=1}");
    assert!(read_until(logs, "the end").await.is_empty());
}

#[rpc_parallel::test(worker_logs = true)]
async fn what_logs_while_it_is_logged_harms_nobody() {
    let talker = talker().await;
    let logs = talker.logs().await.expect("it has logs");

    talker.say_what_says().await.expect("it says it");

    let messages = messages_until(logs, "outer").await;
    assert_eq!(messages, ["it begins", "writing 1", "writing 1", "writing 2"]);
}

#[rpc_parallel::test(worker_logs = true)]
async fn the_logs_of_a_worker_that_dies_end_with_its_death() {
    let talker = talker().await;
    let mut logs = talker.logs().await.expect("it has logs");
    next_record(&mut logs).await;

    kill(talker.label().pid().expect("it has one"));

    let error = soon(logs.next()).await.expect("there is an end").expect_err("it is a death");
    assert!(matches!(error.kind(), PipeErrorKind::WorkerDied(_)), "{error:?}");
    assert!(soon(logs.next()).await.is_none());
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_keep_their_worker_alive_unless_they_are_told_not_to() {
    let [first, second] = [talker().await, talker().await];
    let mut keeping = first.logs().await.expect("it has logs");
    let mut other = second.logs().await.expect("it has logs").without_keeping_alive();
    next_record(&mut other).await;

    drop((first, second));

    let error = soon(other.next()).await.expect("there is an end").expect_err("it ends");
    assert_eq!(error.kind(), &PipeErrorKind::ConnectionClosed, "{error:?}");
    next_record(&mut keeping).await;
    let pid = keeping.worker().pid().expect("it has one");
    assert!(!rpc_parallel_tests::process::is_gone(pid));
}

#[rpc_parallel::test(worker_logs = true)]
async fn logs_of_a_worker_in_this_process_are_those_of_this_process() {
    let worker = Talker::serve(()).await.expect("serve it here");
    let client = worker.connect(()).await.expect("connect to it");

    let logs = client.logs().await.expect("it has logs");
    assert_eq!(logs.worker().pid(), Some(std::process::id()));
    assert_eq!(client.pid().await.expect("it answers"), std::process::id());
    let forwarding = logs.forward();

    // Nothing is kept here: this process has no such layer.
    soon(forwarding.flush()).await;
    forwarding.stop();
}

#[rpc_parallel::test(worker_logs = true)]
async fn a_worker_that_is_gone_has_no_logs() {
    let talker = talker().await;
    talker.close();

    let asked = soon(tokio::spawn(talker.logs())).await.expect("it does not panic");
    let error = asked.expect_err("it is closed");

    let text = error.to_string();
    assert!(text.starts_with("failed to get the logs of worker logs::Talker (pid "), "{text}");
    let ControlErrorKind::Call(kind) = error.kind() else { panic!("{error}") };
    assert_eq!(kind, &CallErrorKind::ConnectionClosed);
    assert!(Span::current().is_none(), "nobody traces here");
}
