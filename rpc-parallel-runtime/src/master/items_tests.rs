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
    AnyError, Call, CallError, CallErrorKind, Client, ExitReason, Pipe, PipeWriter,
};
use crate::launch::Children;
use crate::wire::{FunctionId, Message, PanicReport, Refusal, codec, read_message};
use crate::worker::items::{Batch, MapRequest, Order, Record, Report};
use crate::worker::{
    BoxError, ConnectionState, Context, Declares, WorkerClient, WorkerState, attempt, map_items,
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
        if number % 2 == 0 { Ok(Self(number)) } else { Err(format!("{number} is odd")) }
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
    /// Waits until it is dropped, which it notes in a file.
    async fn wait_until_dropped(&self, note: PathBuf);
    fn attempt(&self, number: u64) -> u32;
    fn attempt_in_context(&self, cx: &Context<Threads>, number: u64) -> u32;
    /// Exits if the number is 13.
    fn exit_at_13(&self, number: u64) -> u64;
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
        Ok(Self)
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
            _ if number % 10 == 0 => Err(AnyError::new(number)),
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
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let running = self.running.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        running
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

fn id<F>() -> FunctionId
where
    ItemsClient: Declares<F>,
{
    <ItemsClient as Declares<F>>::FUNCTION.id()
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
        let (orders, orders_out) = Pipe::pair();
        let (reports_in, reports) = Pipe::pair();
        let call = map_items(
            &self.client,
            request,
            &orders_out.with_window(1 << 20),
            &reports_in.with_window(1 << 20),
        );
        let call = tokio::spawn(call);
        Session { orders, reports, call, records: Vec::new(), next_batch: 0 }
    }
}

fn encode<T: Message>(items: &[T]) -> Bytes {
    let mut out = Vec::new();
    for item in items {
        (codec::<T>().encode_item)(item, &mut out, 1 << 30).expect("items can be encoded");
    }
    out.into()
}

fn decode<T: Message>(bytes: &Bytes, count: u32) -> Vec<T> {
    let mut reader = crate::wire::ItemReader::new(crate::wire::Body::shared(bytes));
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
