//! A worker with the connection for its items, and sessions on it that a test leads order by order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::items_worker::{ItemsClient, State};
use crate::connection::{CallError, Client, Pipe, PipeWriter};
use crate::launch::Children;
use crate::master::{Spawn, Worker, open_items};
use crate::wire::{
    Body, FunctionId, ItemReader, Message, PanicReport, Refusal, codec, read_message,
};
use crate::worker::items::{Batch, MapRequest, Order, Record, Report};
use crate::worker::{WorkerClient, map_items};

/// The time after which a test that waits fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A worker and a connection for its items.
pub(super) struct Fixture {
    pub(super) worker: Worker<State>,
    pub(super) client: Client,
}

pub(super) async fn start() -> Fixture {
    start_with(None).await
}

pub(super) async fn start_with(file: Option<PathBuf>) -> Fixture {
    let worker = soon("the start", State::spawner().start(file)).await.expect("it starts");
    let started = Children::get().find(worker.id()).expect("this process has started it");
    let opening = open_items(&started, worker.settings());
    let client = soon("the connection", opening).await.expect("the worker accepts it");
    Fixture { worker, client }
}

pub(super) fn id_of(name: &str) -> FunctionId {
    let functions = ItemsClient::WORKER_TRAIT.functions;
    functions.iter().find(|it| it.name() == name).expect("the function is declared").id()
}

pub(super) fn request(function: &str) -> MapRequest {
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
pub(super) struct Session {
    pub(super) orders: PipeWriter<Bytes>,
    pub(super) reports: Pipe<Bytes>,
    pub(super) call: JoinHandle<Result<(), CallError>>,
    /// The reports that have arrived.
    pub(super) records: Vec<(Record, Bytes)>,
    next_batch: u64,
}

impl Fixture {
    pub(super) fn map(&self, function: &str) -> Session {
        self.map_with(&request(function))
    }

    pub(super) fn map_with(&self, request: &MapRequest) -> Session {
        map_over(&self.client, request)
    }
}

pub(super) fn map_over(client: &Client, request: &MapRequest) -> Session {
    map_with_window(client, request, 1 << 20)
}

/// Begins a map whose reports have a window of this size.
pub(super) fn map_with_window(client: &Client, request: &MapRequest, window: usize) -> Session {
    let (orders, orders_out) = Pipe::pair();
    let (reports_in, reports) = Pipe::pair();
    let (orders_out, reports_in) =
        (orders_out.with_window(1 << 20), reports_in.with_window(window));
    let call = tokio::spawn(map_items(client, request, &orders_out, &reports_in));
    Session { orders, reports, call, records: Vec::new(), next_batch: 0 }
}

pub(super) fn encode<T: Message>(items: &[T]) -> Bytes {
    let mut out = Vec::new();
    for item in items {
        (codec::<T>().encode_item)(item, &mut out, 1 << 30).expect("items can be encoded");
    }
    out.into()
}

pub(super) fn decode<T: Message>(bytes: &Bytes, count: u32) -> Vec<T> {
    let mut reader = ItemReader::new(Body::shared(bytes));
    let decode = |_| (codec::<T>().decode_item)(&mut reader).expect("results can be decoded");
    let decoded = (0..count).map(decode).collect();
    assert_eq!(reader.position(), bytes.len(), "there are more results than items");
    decoded
}

impl Session {
    pub(super) async fn send_batch(&mut self, batch: Batch) -> u64 {
        let id = self.next_batch;
        self.next_batch += 1;
        let order = Order::Batch(Batch { id, ..batch });
        self.orders.send(order.encode()).await.expect("the worker reads orders");
        id
    }

    pub(super) async fn send<T: Message>(&mut self, items: &[T]) -> u64 {
        self.send_batch(batch(items)).await
    }

    pub(super) async fn take_back(&mut self, most: u32) {
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
    pub(super) async fn read_until(&mut self, mut is_wanted: impl FnMut(&Record) -> bool) -> usize {
        loop {
            if let Some(at) = self.records.iter().position(|(it, _)| is_wanted(it)) {
                return at;
            }
            self.read().await;
        }
    }

    pub(super) async fn read_finished(&mut self, id: u64) -> u32 {
        let finished = |it: &Record| matches!(it, Record::Finished { batch, .. } if *batch == id);
        let at = self.read_until(finished).await;
        match self.records[at].0 {
            Record::Finished { items, .. } => items,
            _ => 0,
        }
    }

    /// Returns the results of a batch by their items.
    pub(super) fn results<T: Message>(&self, id: u64) -> Vec<(u32, T)> {
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

    pub(super) fn refusals(&self) -> Vec<(u32, Refusal)> {
        let refused = self.records.iter().filter_map(|(record, bytes)| match record {
            Record::Refused { item, .. } => {
                Some((*item, read_message(bytes).expect("it is a refusal")))
            }
            _ => None,
        });
        refused.collect()
    }

    pub(super) fn failures<T: Message>(&self) -> Vec<(u32, T)> {
        let failed = self.records.iter().filter_map(|(record, bytes)| match record {
            Record::Failed { item, .. } => Some((*item, decode(bytes, 1).remove(0))),
            _ => None,
        });
        failed.collect()
    }

    /// Ends the orders, and waits for the answer of the call.
    pub(super) async fn end(self) -> Result<(), CallError> {
        drop(self.orders);
        soon("the answer", self.call).await.expect("the call does not panic")
    }
}

pub(super) fn batch<T: Message>(items: &[T]) -> Batch {
    let end = u32::try_from(items.len()).expect("there are few items");
    Batch { id: 0, start: 0, end, attempt: 0, careful: false, items: encode(items) }
}

/// Returns the item and the message of a refusal that reports a panic.
pub(super) fn panic_message((item, refusal): (u32, Refusal)) -> (u32, String) {
    match refusal {
        Refusal::Panicked(PanicReport { message, .. }) => (item, message),
        other => panic!("{other}"),
    }
}

/// Waits for a future, and fails after the deadline.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("timed out waiting for {what}"))
}

pub(super) async fn file_appears(file: &Path) {
    soon("a file", async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A directory that is removed when it is dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rpc-parallel-items-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("create a directory");
        Self(path)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
