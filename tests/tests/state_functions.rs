//! Functions that return a state and a pipe of its updates: each update arrives exactly once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use futures_util::future::join_all;
use futures_util::stream;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;
use tokio::sync::broadcast;

/// A list with many writers and many subscribers.
#[rpc_parallel::worker]
trait SharedList {
    /// Appends a number and sends it to all subscribers.
    fn append(&self, number: u64);
    /// Ends the pipes of all subscribers.
    fn finish(&self);
    /// Returns the number of subscribers.
    async fn subscribers(&self) -> usize;
    /// Waits until there are at most this many subscribers.
    async fn wait_for_subscribers(&self, count: usize);
    fn subscribe(&self) -> (Vec<u64>, Pipe<u64>);
    fn subscribe_by_stream(&self) -> (Vec<u64>, Pipe<u64>);
    async fn subscribe_with_names(&self, name: &str) -> Result<Snapshot, NoSuchList>;
}

/// A state and its updates as fields.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    lists: BTreeMap<String, Vec<u64>>,
    appended: Pipe<u64>,
    doubled: Option<Pipe<u64>>,
}

/// There is no list of this name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("there is no list `{0}`")]
struct NoSuchList(String);

struct ListWorker(Mutex<Content>);

/// The list and its subscribers, which change together under one lock.
struct Content {
    list: Vec<u64>,
    subscribers: Vec<PipeWriter<u64>>,
    updates: Option<broadcast::Sender<u64>>,
}

impl WorkerState for ListWorker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let updates = Some(broadcast::channel(100_000).0);
        Ok(Self(Mutex::new(Content { list: Vec::new(), subscribers: Vec::new(), updates })))
    }
}

impl ListWorker {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("the lock is not poisoned")
    }
}

#[rpc_parallel::worker]
impl SharedList for ListWorker {
    fn append(&self, number: u64) {
        let mut content = self.content();
        content.list.push(number);
        content.subscribers.retain(|it| it.try_send(number).is_ok());
        if let Some(updates) = &content.updates {
            // Sending fails without subscribers.
            let _ = updates.send(number);
        }
    }

    fn finish(&self) {
        let mut content = self.content();
        content.subscribers.clear();
        content.updates = None;
    }

    async fn subscribers(&self) -> usize {
        self.content().subscribers.iter().filter(|it| !it.is_closed()).count()
    }

    async fn wait_for_subscribers(&self, count: usize) {
        while self.subscribers().await > count {
            tokio::task::yield_now().await;
        }
    }

    fn subscribe(&self) -> (Vec<u64>, Pipe<u64>) {
        let (writer, updates) = Pipe::pair();
        let mut content = self.content();
        content.subscribers.push(writer);
        (content.list.clone(), updates)
    }

    fn subscribe_by_stream(&self) -> (Vec<u64>, Pipe<u64>) {
        let content = self.content();
        let updates = content.updates.as_ref().map(broadcast::Sender::subscribe);
        let updates = stream::unfold(updates, async |it| {
            let mut updates = it?;
            let number = updates.recv().await.ok()?;
            Some((number, Some(updates)))
        });
        (content.list.clone(), Pipe::from_stream(updates))
    }

    async fn subscribe_with_names(&self, name: &str) -> Result<Snapshot, NoSuchList> {
        if name != "all" {
            return Err(NoSuchList(name.into()));
        }
        let (list, appended) = self.subscribe();
        let doubled = Pipe::from_items(list.clone().into_iter().map(|it| 2 * it));
        let lists = BTreeMap::from([("all".into(), list)]);
        Ok(Snapshot { lists, appended, doubled: Some(doubled) })
    }
}

async fn connect(worker: &Worker<ListWorker>) -> SharedListClient {
    worker.connect_ok().await
}

async fn start() -> Worker<ListWorker> {
    ListWorker::start_ok(()).await
}

const WRITERS: u64 = 4;
const UPDATES: u64 = 500;

/// Appends on several connections while others subscribe.
async fn subscribe_during_updates<F>(subscribe: F)
where
    F: AsyncFn(&SharedListClient) -> Result<(Vec<u64>, Pipe<u64>), CallError>,
{
    let worker = start().await;
    let writers = (0..WRITERS).map(async |writer| {
        let client = connect(&worker).await;
        for number in 0..UPDATES {
            client.append(writer * UPDATES + number).await.expect("the call succeeds");
        }
    });
    let subscribers = (0..30).map(async |number| {
        let client = connect(&worker).await;
        // Each client subscribes at another time.
        for _ in 0..10 * number {
            client.subscribers().await.expect("the call succeeds");
        }
        subscribe(&client).await.expect("the call succeeds")
    });

    let (subscribed, _) = soon(async { join!(join_all(subscribers), join_all(writers)) }).await;
    let client = connect(&worker).await;
    client.finish().await.expect("the call succeeds");
    let (list, _) = client.subscribe().await.expect("the call succeeds");

    assert_eq!(list.len() as u64, WRITERS * UPDATES);
    let mut lengths = Vec::new();
    for (mut seen, updates) in subscribed {
        lengths.push(seen.len());
        seen.extend(elements(updates).await);
        assert!(seen == list, "from {lengths:?}: {} of {}", seen.len(), list.len());
    }
    lengths.dedup();
    assert!(lengths.len() > 1, "clients subscribed at different times: {lengths:?}");
}

#[rpc_parallel::test]
async fn concurrent_updates_arrive_exactly_once_by_writer() {
    subscribe_during_updates(async |it| it.subscribe().await).await;
}

#[rpc_parallel::test]
async fn concurrent_updates_arrive_exactly_once_by_stream() {
    subscribe_during_updates(async |it| it.subscribe_by_stream().await).await;
}

#[rpc_parallel::test]
async fn state_precedes_its_updates() {
    let client = connect(&start().await).await;
    client.append(1).await.expect("the call succeeds");

    let (state, mut updates) = client.subscribe().await.expect("the call succeeds");
    client.append(2).await.expect("the call succeeds");
    let second = soon(updates.next()).await.and_then(Result::ok);
    client.append(3).await.expect("the call succeeds");
    client.finish().await.expect("the call succeeds");

    assert_eq!((state, second), (vec![1], Some(2)));
    assert_eq!(elements(updates).await, [3]);
}

#[rpc_parallel::test]
async fn state_function_can_fail_and_return_any_state_type() {
    let client = connect(&start().await).await;
    client.append(7).await.expect("the call succeeds");

    let refused = client.subscribe_with_names("none").await.err();
    let snapshot = client.subscribe_with_names("all").await.expect("the list exists");
    client.append(8).await.expect("the call succeeds");
    client.finish().await.expect("the call succeeds");

    assert_eq!(refused, Some(FunctionError::Function(NoSuchList("none".into()))));
    assert_eq!(snapshot.lists, BTreeMap::from([("all".into(), vec![7])]));
    assert_eq!(elements(snapshot.appended).await, [8]);
    assert_eq!(elements(snapshot.doubled.expect("the field is set")).await, [14]);
}

#[rpc_parallel::test]
async fn worker_forgets_dropped_subscribers() {
    let client = connect(&start().await).await;
    let (_, first) = client.subscribe().await.expect("the call succeeds");
    let (_, second) = client.subscribe().await.expect("the call succeeds");
    assert_eq!(client.subscribers().await, Ok(2));

    drop(first);
    soon(client.wait_for_subscribers(1)).await.expect("the call succeeds");
    client.append(1).await.expect("the call succeeds");
    client.finish().await.expect("the call succeeds");

    assert_eq!(elements(second).await, [1]);
}

/// Functions that write log lines and return them as a pipe.
#[rpc_parallel::worker]
trait Log {
    fn work(&self, what: &str);
    fn log(&self) -> Pipe<String>;
}

#[derive(Default, WorkerState)]
struct LogWorker(Mutex<Vec<PipeWriter<String>>>);

#[rpc_parallel::worker]
impl Log for LogWorker {
    fn work(&self, what: &str) {
        let mut subscribers = self.0.lock().expect("the lock is not poisoned");
        subscribers.retain(|it| it.try_send(format!("did {what}")).is_ok());
    }

    fn log(&self) -> Pipe<String> {
        let (writer, lines) = Pipe::pair();
        self.0.lock().expect("the lock is not poisoned").push(writer);
        lines
    }
}

#[rpc_parallel::test]
async fn worker_streams_log_lines_to_subscribers() {
    let client = LogWorker::spawn_ok(()).await;

    let mut first = client.log().await.expect("the call succeeds");
    client.work("this").await.expect("the call succeeds");
    let mut second = client.log().await.expect("the call succeeds");
    client.work("that").await.expect("the call succeeds");

    drop(client);

    let mut lines = [Vec::new(), Vec::new()];
    for (lines, (pipe, count)) in lines.iter_mut().zip([(&mut first, 2), (&mut second, 1)]) {
        for _ in 0..count {
            lines.extend(soon(pipe.next()).await.and_then(Result::ok));
        }
    }
    assert_eq!(lines, [vec!["did this", "did that"], vec!["did that"]]);
}
