//! The items of maps in real worker processes: sessions that a test leads order by order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Spawn, Worker, open_items};
use crate::connection::{
    AnyError, CallError, CallErrorKind, Client, ExitReason, Opening, Pipe, PipeWriter,
    ProcessAccess, encode_control_request,
};
use crate::launch::{Children, RuntimeFlavor};
use crate::transport::{connected_pair, split};
use crate::wire::{
    Body, FunctionId, ItemReader, Message, PanicReport, Refusal, Settings, Sink, WorkerId,
    WorkerLabel, codec, read_message,
};
use crate::worker::items::{Batch, MapRequest, Order, Record, Report};
use crate::worker::{
    BoxError, ConnectionState, Context, OneWorkerTraitPerType, Servers, WorkerClient, WorkerState,
    attempt, greeting, map_items, serve_connection,
};

/// The time after which a test that waits fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A number that cannot be decoded if it is odd.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
#[serde(try_from = "u64")]
struct Even(u64);

impl TryFrom<u64> for Even {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number.is_multiple_of(2) { Ok(Self(number)) } else { Err(format!("{number} is odd")) }
    }
}

/// A value that panics while it is encoded.
#[derive(Deserialize, Debug)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("encoding panics")
    }
}

#[rpc_parallel::worker(crate = crate)]
trait Items {
    fn double(&self, number: u64) -> u64;
    fn describe(&self, name: String, number: u32) -> String;
    fn add(&self, one: u64, other: u64) -> u64;
    fn add_below_hundred(&self, one: u64, other: u64) -> Result<u64, AnyError>;
    fn nothing(&self, number: u64);
    fn half(&self, number: Even) -> u64;
    /// Fails for multiples of 10, and panics for 13.
    fn check(&self, number: u64) -> Result<u64, AnyError>;
    fn unencodable(&self, number: u64) -> Unencodable;
    fn bytes(&self, count: usize) -> Vec<u8>;
    fn pipe(&self, number: u64) -> Pipe<u64>;
    /// Blocks the thread until the file exists.
    fn block_until(&self, file: Option<PathBuf>) -> bool;
    /// Blocks the thread for this time.
    fn block_for(&self, micros: u64) -> u64;
    /// Waits until the file exists.
    async fn wait_until(&self, file: Option<PathBuf>) -> bool;
    /// Returns how many of these items are running after two turns of the runtime.
    async fn running(&self, number: u64) -> usize;
    async fn double_later(&self, number: u64) -> u64;
    /// Waits until it is dropped, which it notes in a file.
    async fn wait_until_dropped(&self, note: PathBuf);
    fn attempt(&self, number: u64) -> u32;
    fn attempt_in_context(&self, cx: &Context<Threads>, number: u64) -> u32;
    /// Exits if the number is 13.
    fn exit_at_13(&self, number: u64) -> u64;
    async fn exit_at_13_later(&self, number: u64) -> u64;
    /// Writes the thread ids of all user code so far.
    fn threads(&self, cx: &Context<Threads>, number: u64) -> String;
    fn is_cancelled_after(&self, cx: &Context<Threads>, file: PathBuf);
}

/// Notes the threads on which user code runs.
#[derive(Default)]
struct State {
    running: AtomicUsize,
    threads: Mutex<Vec<String>>,
    /// The file to which `on_shutdown` writes the threads.
    file: Option<PathBuf>,
}

struct Threads;

/// The name of the file of a worker whose connections fail.
const FAILS: &str = "fails";

impl State {
    fn note(&self, what: &str) -> String {
        let mut threads = self.threads.lock().expect("no code panics while it holds this lock");
        threads.push(format!("{what} {:?}", thread::current().id()));
        threads.join("\n")
    }
}

impl WorkerState for State {
    type Init = Option<PathBuf>;

    async fn init(file: Option<PathBuf>) -> Result<Self, BoxError> {
        let state = Self { file, ..Self::default() };
        state.note("init");
        Ok(state)
    }

    async fn on_shutdown(&self) {
        let threads = self.note("shutdown");
        if let Some(file) = &self.file {
            fs::write(file, threads).expect("write the file");
        }
    }
}

impl ConnectionState<State> for Threads {
    type Init = ();

    async fn init(state: &State, (): ()) -> Result<Self, BoxError> {
        state.note("connection");
        let fails = state.file.as_ref().is_some_and(|it| it.ends_with(FAILS));
        if fails { Err("no connection".into()) } else { Ok(Self) }
    }
}

fn wait_for(file: Option<&Path>) -> bool {
    let Some(file) = file else { return false };
    while !file.exists() {
        thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Notes in a file that it was dropped.
struct NoteDrop(PathBuf);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        fs::write(&self.0, "").expect("write the file");
    }
}

#[rpc_parallel::worker(crate = crate)]
impl Items for State {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }

    fn describe(&self, name: String, number: u32) -> String {
        format!("{name} {number}")
    }

    fn add(&self, one: u64, other: u64) -> u64 {
        one + other
    }

    fn add_below_hundred(&self, one: u64, other: u64) -> Result<u64, AnyError> {
        let sum = one + other;
        if sum < 100 { Ok(sum) } else { Err("the sum is too large".into()) }
    }

    fn nothing(&self, _: u64) {}

    fn half(&self, number: Even) -> u64 {
        number.0 / 2
    }

    fn check(&self, number: u64) -> Result<u64, AnyError> {
        match number {
            13 => panic!("number 13"),
            _ if number.is_multiple_of(10) => Err(AnyError::new(number)),
            _ => Ok(number),
        }
    }

    fn unencodable(&self, _: u64) -> Unencodable {
        Unencodable
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        vec![7; count]
    }

    fn pipe(&self, _: u64) -> Pipe<u64> {
        Pipe::from_items(0..1)
    }

    fn block_until(&self, file: Option<PathBuf>) -> bool {
        wait_for(file.as_deref())
    }

    fn block_for(&self, micros: u64) -> u64 {
        thread::sleep(Duration::from_micros(micros));
        micros
    }

    async fn wait_until(&self, file: Option<PathBuf>) -> bool {
        let Some(file) = file else { return false };
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    async fn running(&self, _: u64) -> usize {
        self.running.fetch_add(1, Ordering::Relaxed);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let running = self.running.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        running
    }

    async fn double_later(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        number * 2
    }

    async fn wait_until_dropped(&self, note: PathBuf) {
        fs::write(note.with_extension("begun"), "").expect("write the file");
        let _note = NoteDrop(note);
        std::future::pending::<()>().await;
    }

    fn attempt(&self, _: u64) -> u32 {
        attempt()
    }

    fn attempt_in_context(&self, cx: &Context<Threads>, _: u64) -> u32 {
        cx.attempt()
    }

    fn exit_at_13(&self, number: u64) -> u64 {
        if number == 13 {
            std::process::exit(7);
        }
        number
    }

    async fn exit_at_13_later(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        self.exit_at_13(number)
    }

    fn threads(&self, _: &Context<Threads>, _: u64) -> String {
        self.note("item")
    }

    fn is_cancelled_after(&self, cx: &Context<Threads>, file: PathBuf) {
        fs::write(file.with_extension("begun"), "").expect("write the file");
        while !cx.is_cancelled() {
            thread::yield_now();
        }
        fs::write(file, "").expect("write the file");
    }
}

/// Waits for a future, and fails after the deadline.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("timed out waiting for {what}"))
}

async fn file_appears(file: &Path) {
    soon("a file", async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A directory that is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rpc-parallel-items-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("create a directory");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A worker and a connection for its items.
struct Fixture {
    worker: Worker<State>,
    client: Client,
}

async fn start() -> Fixture {
    start_with(None).await
}

async fn start_with(file: Option<PathBuf>) -> Fixture {
    let worker = soon("the start", State::spawner().start(file)).await.expect("it starts");
    let started = Children::get().find(worker.id()).expect("this process has started it");
    let opening = open_items(&started, worker.settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");
    Fixture { worker, client }
}

fn id_of(name: &str) -> FunctionId {
    let functions = ItemsClient::WORKER_TRAIT.functions;
    functions.iter().find(|it| it.name() == name).expect("the function is declared").id()
}

fn request(function: &str) -> MapRequest {
    MapRequest {
        function: id_of(function),
        combine: None,
        concurrency: 1,
        timeout: None,
        gather_time: Duration::from_millis(5),
        report_every: Duration::from_secs(60),
    }
}

/// One map, whose orders the test sends.
struct Session {
    orders: PipeWriter<Bytes>,
    reports: Pipe<Bytes>,
    call: JoinHandle<Result<(), CallError>>,
    /// The reports that have arrived.
    records: Vec<(Record, Bytes)>,
    next_batch: u64,
}

impl Fixture {
    fn map(&self, function: &str) -> Session {
        self.map_with(&request(function))
    }

    fn map_with(&self, request: &MapRequest) -> Session {
        map_over(&self.client, request)
    }
}

fn map_over(client: &Client, request: &MapRequest) -> Session {
    map_with_window(client, request, 1 << 20)
}

/// Begins a map whose reports have a window of this size.
fn map_with_window(client: &Client, request: &MapRequest, window: usize) -> Session {
    let (orders, orders_out) = Pipe::pair();
    let (reports_in, reports) = Pipe::pair();
    let (orders_out, reports_in) =
        (orders_out.with_window(1 << 20), reports_in.with_window(window));
    let call = tokio::spawn(map_items(client, request, &orders_out, &reports_in));
    Session { orders, reports, call, records: Vec::new(), next_batch: 0 }
}

fn encode<T: Message>(items: &[T]) -> Bytes {
    let mut out = Vec::new();
    for item in items {
        (codec::<T>().encode_item)(item, &mut out, 1 << 30).expect("items can be encoded");
    }
    out.into()
}

fn decode<T: Message>(bytes: &Bytes, count: u32) -> Vec<T> {
    let mut reader = ItemReader::new(Body::shared(bytes));
    let decode = |_| (codec::<T>().decode_item)(&mut reader).expect("results can be decoded");
    let decoded = (0..count).map(decode).collect();
    assert_eq!(reader.position(), bytes.len(), "there are more results than items");
    decoded
}

impl Session {
    async fn send_batch(&mut self, batch: Batch) -> u64 {
        let id = self.next_batch;
        self.next_batch += 1;
        let order = Order::Batch(Batch { id, ..batch });
        self.orders.send(order.encode()).await.expect("the worker reads orders");
        id
    }

    async fn send<T: Message>(&mut self, items: &[T]) -> u64 {
        self.send_batch(batch(items)).await
    }

    async fn take_back(&mut self, most: u32) {
        let order = Order::TakeBack { most };
        self.orders.send(order.encode()).await.expect("the worker reads orders");
    }

    /// Reads the next report.
    async fn read(&mut self) {
        let report = soon("a report", self.reports.next()).await;
        let report = report.expect("the session goes on").expect("the pipe is intact");
        let Report { mut results, records } = Report::decode(report).expect("it is well formed");
        for record in records {
            let len = match record {
                Record::Results { len, .. }
                | Record::Failed { len, .. }
                | Record::Refused { len, .. } => len,
                _ => 0,
            };
            self.records.push((record, results.split_to(len as usize)));
        }
    }

    /// Reads until a record fulfils a condition, and returns its position.
    async fn read_until(&mut self, mut is_wanted: impl FnMut(&Record) -> bool) -> usize {
        loop {
            if let Some(at) = self.records.iter().position(|(it, _)| is_wanted(it)) {
                return at;
            }
            self.read().await;
        }
    }

    async fn read_finished(&mut self, id: u64) -> u32 {
        let finished = |it: &Record| matches!(it, Record::Finished { batch, .. } if *batch == id);
        let at = self.read_until(finished).await;
        match self.records[at].0 {
            Record::Finished { items, .. } => items,
            _ => 0,
        }
    }

    /// Returns the results of a batch by their items.
    fn results<T: Message>(&self, id: u64) -> Vec<(u32, T)> {
        let mut results = Vec::new();
        for (record, bytes) in &self.records {
            if let Record::Results { batch, from, to, .. } = *record
                && batch == id
            {
                results.extend((from..to).zip(decode(bytes, to - from)));
            }
        }
        results
    }

    fn refusals(&self) -> Vec<(u32, Refusal)> {
        let refused = self.records.iter().filter_map(|(record, bytes)| match record {
            Record::Refused { item, .. } => {
                Some((*item, read_message(bytes).expect("it is a refusal")))
            }
            _ => None,
        });
        refused.collect()
    }

    fn failures<T: Message>(&self) -> Vec<(u32, T)> {
        let failed = self.records.iter().filter_map(|(record, bytes)| match record {
            Record::Failed { item, .. } => Some((*item, decode(bytes, 1).remove(0))),
            _ => None,
        });
        failed.collect()
    }

    /// Ends the orders, and waits for the answer of the call.
    async fn end(self) -> Result<(), CallError> {
        drop(self.orders);
        soon("the answer", self.call).await.expect("the call does not panic")
    }
}

fn batch<T: Message>(items: &[T]) -> Batch {
    let end = u32::try_from(items.len()).expect("there are few items");
    Batch { id: 0, start: 0, end, attempt: 0, careful: false, items: encode(items) }
}

#[rpc_parallel::test(crate = crate)]
async fn synchronous_items_give_exact_results_in_order() {
    let fixture = start().await;
    let mut session = fixture.map("double");
    let numbers: Vec<u64> = (0..100_000).collect();

    let one = session.send(&numbers[..99_000]).await;
    let two = session.send(&numbers[99_000..]).await;

    assert_eq!(session.read_finished(one).await, 99_000);
    assert_eq!(session.read_finished(two).await, 1000);
    let results = [session.results::<u64>(one), session.results::<u64>(two)].concat();
    let results: Vec<u64> = results.into_iter().map(|(_, it)| it).collect();
    assert_eq!(results, numbers.iter().map(|it| it * 2).collect::<Vec<_>>());
    session.end().await.expect("the session ends");
}

#[rpc_parallel::test(crate = crate)]
async fn items_outside_range_of_batch_are_skipped() {
    let fixture = start().await;
    let mut session = fixture.map("describe");
    let mut items = Vec::new();
    for number in 0..10_u32 {
        let name = "x".repeat(number as usize * 100);
        (codec::<String>().encode_item)(&name, &mut items, 1 << 20).expect("it is small");
        (codec::<u32>().encode_item)(&number, &mut items, 1 << 20).expect("it is small");
    }
    let items = items.into();

    let id = session
        .send_batch(Batch { id: 0, start: 3, end: 5, attempt: 0, careful: false, items })
        .await;

    assert_eq!(session.read_finished(id).await, 2);
    let expected = [(3, format!("{} 3", "x".repeat(300))), (4, format!("{} 4", "x".repeat(400)))];
    assert_eq!(session.results::<String>(id), expected);
}

#[rpc_parallel::test(crate = crate)]
async fn item_without_result_is_answered_and_next_ones_run() {
    let fixture = start().await;
    let mut session = fixture.map("check");

    let id = session.send::<u64>(&[9, 10, 11, 13, 14, 20, 13]).await;

    assert_eq!(session.read_finished(id).await, 7);
    assert_eq!(session.results::<u64>(id), [(0, 9), (2, 11), (4, 14)]);
    let failures: Vec<(u32, String)> =
        session.failures::<AnyError>().iter().map(|(at, it)| (*at, it.to_string())).collect();
    assert_eq!(failures, [(1, "10".to_owned()), (5, "20".to_owned())]);
    let panics: Vec<_> = session.refusals().into_iter().map(panic_message).collect();
    assert_eq!(panics, [(3, "number 13".to_owned()), (6, "number 13".to_owned())]);
}

fn panic_message((item, refusal): (u32, Refusal)) -> (u32, String) {
    match refusal {
        Refusal::Panicked(PanicReport { message, .. }) => (item, message),
        other => panic!("{other}"),
    }
}

#[rpc_parallel::test(crate = crate)]
async fn undecodable_item_is_refused_and_next_ones_run() {
    let fixture = start().await;
    let mut session = fixture.map("half");

    // The types of items that are no numbers are not checked: these are encoded as text.
    let texts = ["text".to_owned(), String::new()];
    let items = [encode(&[Even(4), Even(7)]), encode(&texts), encode(&[Even(8)])].concat();
    let id = session.send_batch(Batch { end: 5, items: items.into(), ..batch::<u64>(&[]) }).await;

    assert_eq!(session.read_finished(id).await, 5);
    assert_eq!(session.results::<u64>(id), [(0, 2), (4, 4)]);
    let refused: Vec<_> = session.refusals();
    assert_eq!(refused.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3]);
    let Refusal::Undecodable { why } = &refused[0].1 else { panic!("{}", refused[0].1) };
    assert!(why.contains("7 is odd"), "{why}");
}

#[rpc_parallel::test(crate = crate)]
async fn result_that_cannot_be_sent_is_refused() {
    let fixture = start().await;
    let max = fixture.worker.settings().max_message_size();
    let (mut panicking, mut large, mut pipes) =
        (fixture.map("unencodable"), fixture.map("bytes"), fixture.map("pipe"));

    let ids = [
        panicking.send::<u64>(&[1]).await,
        large.send::<u64>(&[10, max as u64, 70_000]).await,
        pipes.send::<u64>(&[1]).await,
    ];

    panicking.read_finished(ids[0]).await;
    assert_eq!(panic_message(panicking.refusals().remove(0)).1, "encoding panics");
    large.read_finished(ids[1]).await;
    let lens: Vec<_> =
        large.results::<Vec<u8>>(ids[1]).iter().map(|(at, it)| (*at, it.len())).collect();
    assert_eq!(lens, [(0, 10), (2, 70_000)]);
    assert!(matches!(large.refusals()[..], [(1, Refusal::TooLarge { .. })]));
    pipes.read_finished(ids[2]).await;
    let Refusal::Unencodable { why } = pipes.refusals().remove(0).1 else { panic!("it is sent") };
    assert!(why.contains("a pipe can be sent only in"), "{why}");
}

#[rpc_parallel::test(crate = crate)]
async fn result_behind_slow_item_arrives_within_15_ms() {
    let (fixture, directory) = (start().await, Directory::new());
    let mut session = fixture.map("block_until");
    let mut fastest = Duration::MAX;

    // The machine may be busy, so the fastest of several counts.
    for turn in 0..5 {
        let gate = directory.file(&turn.to_string());
        let sent = Instant::now();
        let id = session.send(&[None, Some(gate.clone())]).await;
        let first = |it: &Record| matches!(it, Record::Results { batch, .. } if *batch == id);
        session.read_until(first).await;
        fastest = fastest.min(sent.elapsed());
        assert_eq!(session.results::<bool>(id), [(0, false)]);
        fs::write(gate, "").expect("open the gate");
        assert_eq!(session.read_finished(id).await, 2);
    }

    assert!(fastest <= Duration::from_millis(15), "{fastest:?}");
}

#[rpc_parallel::test(crate = crate)]
async fn unbegun_items_are_taken_back_while_item_blocks() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let mut session = fixture.map("block_until");
    let items = [None, Some(gate.clone()), None, None, None];
    let first = session.send(&items).await;
    let second = session.send(&items).await;
    session.read_until(|it| matches!(it, Record::Results { .. })).await;

    session.take_back(6).await;
    session.read_until(|it| *it == Record::TakenBack).await;
    session.take_back(6).await;
    session.read_until(|it| matches!(it, Record::GivenBack { from: 2, .. })).await;
    fs::write(gate, "").expect("open the gate");

    assert_eq!(session.read_finished(first).await, 2);
    let given_back: Vec<_> = session.records.iter().map(|it| it.0).filter(is_given_back).collect();
    let record = |batch, from, to| Record::GivenBack { batch, from, to };
    assert_eq!(given_back, [record(second, 0, 5), record(first, 4, 5), record(first, 2, 4)]);
    assert_eq!(session.results::<bool>(first), [(0, false), (1, true)]);
    // The worker is idle, and has nothing to give back.
    session.records.clear();
    session.take_back(6).await;
    session.read_until(|it| *it == Record::TakenBack).await;
    assert_eq!(session.records.len(), 1);
}

fn is_given_back(record: &Record) -> bool {
    matches!(record, Record::GivenBack { .. })
}

/// Each item of a careful batch is announced before it begins, and its result is written before the
/// next one begins.
#[rpc_parallel::test(crate = crate)]
async fn items_of_careful_batch_are_reported_one_by_one() {
    for (function, attempt) in
        [("exit_at_13", 0), ("exit_at_13", 1), ("exit_at_13_later", 0), ("exit_at_13_later", 1)]
    {
        let fixture = start().await;
        let mut session = fixture.map(function);

        let items = [11_u64, 12, 13, 14];
        let id = session.send_batch(Batch { careful: true, attempt, ..batch(&items) }).await;
        session.read_until(|it| *it == Record::Begun { batch: id, item: 2 }).await;
        let end = soon("the end", session.reports.next()).await.expect("there is an error");

        assert!(end.is_err());
        let begun = |item| Record::Begun { batch: id, item };
        let result = |item| Record::Results { batch: id, from: item, to: item + 1, len: 8 };
        let records: Vec<_> = session.records.iter().map(|it| it.0).collect();
        assert_eq!(records, [begun(0), result(0), begun(1), result(1), begun(2)]);
        let error = session.end().await.expect_err("the worker has ended");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

#[rpc_parallel::test(crate = crate)]
async fn only_items_with_earlier_deaths_run_alone() {
    let fixture = start().await;
    for attempt in [0, 1] {
        let mut session = fixture.map_with(&MapRequest { concurrency: 3, ..request("running") });

        let batch = Batch { careful: true, attempt, ..batch(&[0_u64; 10]) };
        let id = session.send_batch(batch).await;

        assert_eq!(session.read_finished(id).await, 10);
        let ran_at_once = session.results::<usize>(id).iter().any(|it| it.1 > 1);
        assert_eq!(ran_at_once, attempt == 0, "attempt {attempt}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn blocking_item_is_reported_as_overdue_once_and_alive() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let timeout = Some(Duration::from_millis(30));
    let report_every = Duration::from_millis(20);
    let mut session =
        fixture.map_with(&MapRequest { timeout, report_every, ..request("block_until") });

    let sent = Instant::now();
    let id = session.send(&[None, Some(gate.clone())]).await;
    session.read_until(|it| matches!(it, Record::Overdue { .. })).await;
    let after = sent.elapsed();
    for _ in 0..3 {
        session.records.retain(|it| it.0 != Record::Alive);
        session.read_until(|it| *it == Record::Alive).await;
    }
    fs::write(gate, "").expect("open the gate");
    session.read_finished(id).await;

    assert!(after >= Duration::from_millis(30), "{after:?}");
    let overdue: Vec<_> =
        session.records.iter().filter(|it| matches!(it.0, Record::Overdue { .. })).collect();
    assert_eq!(overdue, [&(Record::Overdue { batch: id, item: 1 }, Bytes::new())]);
}

#[rpc_parallel::test(crate = crate)]
async fn call_is_answered_between_items() {
    let fixture = start().await;
    let client = soon("the connection", fixture.worker.connect(())).await.expect("it accepts");
    let mut session = fixture.map("block_for");

    // The items take 10 s, which is within the deadline of a test, and the call does not wait.
    let id = session.send(&[1000_u64; 10_000]).await;
    session.read_until(|it| matches!(it, Record::Results { .. })).await;
    let answer = soon("the answer", client.double(7)).await;

    assert_eq!(answer.expect("the call succeeds"), 14);
    let finished = |it: &(Record, Bytes)| matches!(it.0, Record::Finished { .. });
    assert!(!session.records.iter().any(finished));
    session.take_back(10_000).await;
    assert!(session.read_finished(id).await < 10_000);
    session.end().await.expect("the session ends");
}

#[rpc_parallel::test(crate = crate)]
async fn user_code_runs_on_one_thread() {
    let directory = Directory::new();
    let file = directory.file("threads");
    let fixture = start_with(Some(file.clone())).await;
    let client = soon("the connection", fixture.worker.connect(())).await.expect("it accepts");
    let mut session = fixture.map("threads");

    let id = session.send::<u64>(&[1, 2]).await;
    session.read_finished(id).await;
    soon("the answer", client.threads(1)).await.expect("the call succeeds");
    session.end().await.expect("the session ends");
    soon("the end", fixture.worker.shutdown()).await.expect("the worker ends");

    let threads = fs::read_to_string(file).expect("`on_shutdown` has written the file");
    let (what, threads): (Vec<_>, Vec<_>) =
        threads.lines().filter_map(|it| it.split_once(' ')).unzip();
    let expected = ["init", "connection", "connection", "item", "item", "item", "shutdown"];
    assert_eq!(what, expected);
    assert!(threads.iter().all(|it| it == &threads[0]), "{threads:?}");
}

#[rpc_parallel::test(crate = crate)]
async fn malformed_order_ends_its_session_only() {
    let fixture = start().await;
    let (mut hostile, mut other) = (fixture.map("double"), fixture.map("double"));
    let order = Bytes::from_static(b"no order");

    hostile.orders.send(order).await.expect("the worker reads orders");

    let call = soon("the answer", &mut hostile.call).await.expect("it does not panic");
    let error = call.expect_err("the order is malformed");
    assert!(error.to_string().contains("malformed message of a map, 8 bytes long"), "{error}");
    let id = other.send::<u64>(&[7]).await;
    other.read_finished(id).await;
    assert_eq!(other.results::<u64>(id), [(0, 14)]);
}

#[rpc_parallel::test(crate = crate)]
async fn batch_with_fewer_items_than_announced_ends_its_session() {
    let fixture = start().await;
    let three = [1_u64, 2, 3];
    for function in ["double", "running"] {
        let mut session = fixture.map(function);

        session.send_batch(Batch { end: u32::MAX, ..batch(&three) }).await;

        let call = soon("the answer", &mut session.call).await.expect("it does not panic");
        let error = call.expect_err("the batch is malformed").to_string();
        assert!(error.contains("malformed message of a map, 24 bytes long"), "{error}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn unknown_function_is_refused_with_names_of_others() {
    let fixture = start().await;

    let function = FunctionId::chosen("unknown");
    let session = fixture.map_with(&MapRequest { function, ..request("double") });
    let combine = Some(function);
    let other = fixture.map_with(&MapRequest { combine, ..request("double") });

    for session in [session, other] {
        let call = soon("the answer", session.call).await.expect("it does not panic");
        let error = call.expect_err("there is no such function");
        let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
        assert!(offers.iter().any(|it| it == "double(u64)->u64"), "{offers:?}");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn asynchronous_items_run_at_once_up_to_limit() {
    let fixture = start().await;
    let mut one = fixture.map("running");
    let mut three = fixture.map_with(&MapRequest { concurrency: 3, ..request("running") });

    let numbers = [0_u64; 10];
    let id = one.send(&numbers).await;
    assert_eq!(one.read_finished(id).await, 10);
    let (first, second) = (three.send(&numbers).await, three.send(&numbers).await);
    assert_eq!(three.read_finished(first).await, 10);
    assert_eq!(three.read_finished(second).await, 10);

    let most = |results: Vec<(u32, usize)>| results.iter().map(|it| it.1).max();
    assert_eq!(most(one.results(id)), Some(1));
    assert_eq!(most(three.results(first)), Some(3));
    let mut items: Vec<_> = three.results::<usize>(second).iter().map(|it| it.0).collect();
    items.sort_unstable();
    assert_eq!(items, (0..10).collect::<Vec<_>>());
}

#[rpc_parallel::test(crate = crate)]
async fn finished_asynchronous_item_is_reported_before_slow_one_ends() {
    let (fixture, directory) = (start().await, Directory::new());
    let gate = directory.file("gate");
    let mut session = fixture.map_with(&MapRequest { concurrency: 2, ..request("wait_until") });

    let id = session.send(&[Some(gate.clone()), None, None]).await;
    let last = |it: &Record| matches!(it, Record::Results { to: 3, .. });
    session.read_until(last).await;
    fs::write(gate, "").expect("open the gate");

    assert_eq!(session.read_finished(id).await, 3);
    assert_eq!(session.results::<bool>(id), [(1, false), (2, false), (0, true)]);
}

#[rpc_parallel::test(crate = crate)]
async fn ending_session_drops_asynchronous_items() {
    let (fixture, directory) = (start().await, Directory::new());
    for (name, concurrency) in [("one", 1), ("many", 4)] {
        let note = directory.file(name);
        let request = MapRequest { concurrency, ..request("wait_until_dropped") };
        let mut session = fixture.map_with(&request);
        session.send(std::slice::from_ref(&note)).await;
        file_appears(&note.with_extension("begun")).await;
        assert!(!note.exists());

        session.end().await.expect("the session ends");

        assert!(note.exists(), "the answer is sent after the item was dropped");
    }
}

#[rpc_parallel::test(crate = crate)]
async fn dropping_call_cancels_item_that_blocks() {
    let (fixture, directory) = (start().await, Directory::new());
    let note = directory.file("note");
    let mut session = fixture.map("is_cancelled_after");
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    session.call.abort();

    file_appears(&note).await;
}

#[rpc_parallel::test(crate = crate)]
async fn only_first_item_of_batch_gets_its_attempt() {
    let fixture = start().await;
    for (function, combine) in
        [("attempt", None), ("attempt_in_context", None), ("attempt", Some(id_of("add")))]
    {
        let mut session = fixture.map_with(&MapRequest { combine, ..request(function) });
        let items = [1_u64, 2, 3];

        // A careful batch of a reduction is not combined.
        let id = session.send_batch(Batch { attempt: 2, careful: true, ..batch(&items) }).await;

        session.read_finished(id).await;
        assert_eq!(session.results::<u32>(id), [(0, 2), (1, 0), (2, 0)]);
    }
}

#[rpc_parallel::test(crate = crate)]
async fn results_of_reduction_are_combined_per_batch() {
    let fixture = start().await;
    let combine = Some(id_of("add"));
    let mut session = fixture.map_with(&MapRequest { combine, ..request("double") });
    let numbers: Vec<u64> = (0..1000).collect();

    let (one, two) = (session.send(&numbers).await, session.send::<u64>(&[7]).await);
    session.read_finished(one).await;
    session.read_finished(two).await;

    let accumulators: Vec<_> = session.records.iter().filter(|it| is_results(&it.0)).collect();
    let record = |batch, to| Record::Results { batch, from: 0, to, len: 8 };
    let expected = [
        (record(one, 1000), encode(&[numbers.iter().sum::<u64>() * 2])),
        (record(two, 1), encode(&[14_u64])),
    ];
    assert_eq!(accumulators, expected.iter().collect::<Vec<_>>());
}

fn is_results(record: &Record) -> bool {
    matches!(record, Record::Results { .. })
}

#[rpc_parallel::test(crate = crate)]
async fn failures_interrupt_accumulator() {
    let fixture = start().await;
    let combine = Some(id_of("add_below_hundred"));
    let mut session = fixture.map_with(&MapRequest { combine, ..request("check") });

    // The sum of the third run is too large for its last item.
    let id = session.send::<u64>(&[1, 2, 10, 3, 4, 13, 51, 52, 5]).await;
    session.read_finished(id).await;

    let accumulators: Vec<_> = session
        .records
        .iter()
        .filter_map(|(record, bytes)| match *record {
            Record::Results { from, to, .. } => Some((from, to, decode::<u64>(bytes, 1)[0])),
            _ => None,
        })
        .collect();
    assert_eq!(accumulators, [(0, 2, 3), (3, 5, 7), (6, 7, 51), (8, 9, 5)]);
    let failures = session.failures::<AnyError>();
    assert_eq!(failures.iter().map(|it| it.0).collect::<Vec<_>>(), [2, 7]);
    assert_eq!(session.refusals().into_iter().map(panic_message).count(), 1);
}

#[rpc_parallel::test(crate = crate)]
async fn more_results_than_window_wait_and_arrive() {
    let fixture = start().await;
    let mut session = map_with_window(&fixture.client, &request("bytes"), 10_000);

    let lens: Vec<usize> = (0..300).map(|it| it * 100).collect();
    let id = session.send(&lens).await;

    assert_eq!(session.read_finished(id).await, 300);
    let results = session.results::<Vec<u8>>(id);
    assert_eq!(results.iter().map(|it| it.1.len()).collect::<Vec<_>>(), lens);
}

#[rpc_parallel::test(crate = crate)]
async fn results_of_zero_width_are_counted() {
    let fixture = start().await;
    let mut session = fixture.map("nothing");

    let id = session.send(&[1_u64; 50_000]).await;

    assert_eq!(session.read_finished(id).await, 50_000);
    assert_eq!(session.results::<()>(id).len(), 50_000);
}

#[rpc_parallel::test(crate = crate)]
async fn session_does_not_delay_end_of_worker() {
    let (fixture, directory) = (start().await, Directory::new());
    let note = directory.file("note");
    let mut session = fixture.map("wait_until_dropped");
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    let began = Instant::now();
    soon("the end", fixture.worker.shutdown()).await.expect("the worker ends in order");

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(note.exists(), "the item is dropped before the worker ends");
    session.end().await.expect_err("the worker has ended");
}

#[rpc_parallel::test(crate = crate)]
async fn items_connection_does_not_keep_worker_without_owner() {
    let directory = Directory::new();
    let note = directory.file("note");
    let owner = soon("the spawn", State::spawner().spawn(None)).await.expect("it starts");
    let started = Children::get().find(owner.worker_id()).expect("this process has started it");
    let opening = open_items(&started, owner.client().settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");
    let mut session = map_over(&client, &request("wait_until_dropped"));
    session.send(std::slice::from_ref(&note)).await;
    file_appears(&note.with_extension("begun")).await;

    drop(owner);

    soon("the end", started.end()).await;
    let call = soon("the answer", session.call).await.expect("it does not panic");
    call.expect_err("the worker has ended");
    assert!(note.exists(), "the item is dropped before the worker ends");
}

#[rpc_parallel::test(crate = crate)]
async fn state_of_connection_that_fails_refuses_session() {
    let fixture = start().await;
    let directory = Directory::new();
    let failing = State::spawner().start(Some(directory.file(FAILS)));
    let failing = soon("the start", failing).await.expect("it starts");
    let started = Children::get().find(failing.id()).expect("this process has started it");
    let opening = open_items(&started, failing.settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");

    let session = map_over(&client, &request("double"));

    let error = session.call.await.expect("it does not panic").expect_err("`init` fails");
    assert!(error.to_string().contains("no connection"), "{error}");
    fixture.map("double").end().await.expect("other workers are not affected");
}

/// Serves a worker on a multi-thread runtime of this process, and its items on this one.
#[tokio::test]
async fn items_run_on_several_threads() {
    let two = RuntimeFlavor::MultiThread { threads: Some(2) };
    let runtime = two.build().expect("make a runtime");
    let (id, settings) = (WorkerId::random(), Settings::default());
    let label = WorkerLabel::here(None, "State".to_owned());
    let mut init = Vec::new();
    crate::wire::encode(&None::<PathBuf>, &mut Sink::new(&mut init, 100)).expect("it is small");
    let starting = (State::WORKER_TYPE.start)(id, label.clone(), init);
    let server = runtime.spawn(starting).await.expect("it does not panic").expect("it starts");
    Servers::get().insert(id, server);
    let (ours, theirs) = connected_pair().expect("make sockets");
    let opening = Opening::new(split(theirs).expect("register it"), settings);
    let serving = tokio::spawn(async move { serve_connection(opening).await });
    let mut opening = Opening::new(split(ours).expect("register it"), settings);
    let request_bytes = encode_control_request(id, greeting());
    soon("the handshake", opening.connect(&request_bytes)).await.expect("it accepts");
    let client = Client::begin(opening, id, label, ProcessAccess::none());

    let numbers: Vec<u64> = (0..5000).collect();
    let combine = Some(id_of("add"));
    let requests = [
        request("double"),
        MapRequest { combine, ..request("double") },
        MapRequest { combine, ..request("double_later") },
        MapRequest { concurrency: 4, ..request("running") },
        MapRequest { concurrency: 4, combine, ..request("double_later") },
    ];
    for request in requests {
        let mut session = map_over(&client, &request);
        let ids = [session.send(&numbers).await, session.send(&numbers).await];
        for id in ids {
            assert_eq!(session.read_finished(id).await, 5000);
        }
        let covered = session.records.iter().filter_map(|it| match it.0 {
            Record::Results { batch, from, to, .. } => Some((from..to).map(move |it| (batch, it))),
            _ => None,
        });
        let mut covered: Vec<_> = covered.flatten().collect();
        covered.sort_unstable();
        let all = ids.iter().flat_map(|id| (0..5000).map(move |it| (*id, it)));
        assert_eq!(covered, all.collect::<Vec<_>>());
        session.end().await.expect("the session ends");
    }

    drop(client);
    soon("the end of the connection", serving).await.expect("it does not panic");
    Servers::get().remove(id);
    runtime.shutdown_background();
}
