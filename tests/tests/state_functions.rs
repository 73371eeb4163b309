//! State functions: a state, then every update of it, none lost and none doubled between.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use futures_util::future::join_all;
use futures_util::stream;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;
use tokio::sync::broadcast;

/// A list that many write to, and many watch.
#[rpc_parallel::worker]
trait Board {
    /// Appends a number, and tells all who watch.
    fn append(&self, number: u64);
    /// Ends the pipes of all who watch.
    fn finish(&self);
    /// Returns how many watch.
    async fn watchers(&self) -> usize;
    /// Waits until so few watch.
    async fn until_watched_by(&self, count: usize);
    fn watch(&self) -> (Vec<u64>, Pipe<u64>);
    fn watch_by_stream(&self) -> (Vec<u64>, Pipe<u64>);
    async fn watch_in_parts(&self, name: &str) -> Result<Snapshot, NoSuchList>;
}

/// A state and its updates, with names.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    lists: BTreeMap<String, Vec<u64>>,
    appended: Pipe<u64>,
    doubled: Option<Pipe<u64>>,
}

/// There is one list only.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("there is no list `{0}`")]
struct NoSuchList(String);

struct Blackboard(Mutex<Content>);

/// The list, and where its updates go. Whoever holds the lock sees both or changes both.
struct Content {
    list: Vec<u64>,
    watchers: Vec<PipeWriter<u64>>,
    updates: Option<broadcast::Sender<u64>>,
}

impl WorkerState for Blackboard {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let updates = Some(broadcast::channel(100_000).0);
        Ok(Self(Mutex::new(Content { list: Vec::new(), watchers: Vec::new(), updates })))
    }
}

impl Blackboard {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("nobody panics in here")
    }
}

#[rpc_parallel::worker]
impl Board for Blackboard {
    fn append(&self, number: u64) {
        let mut content = self.content();
        content.list.push(number);
        content.watchers.retain(|it| it.try_send(number).is_ok());
        if let Some(updates) = &content.updates {
            // It fails where nobody watches.
            let _ = updates.send(number);
        }
    }

    fn finish(&self) {
        let mut content = self.content();
        content.watchers.clear();
        content.updates = None;
    }

    async fn watchers(&self) -> usize {
        self.content().watchers.iter().filter(|it| !it.is_closed()).count()
    }

    async fn until_watched_by(&self, count: usize) {
        while self.watchers().await > count {
            tokio::task::yield_now().await;
        }
    }

    fn watch(&self) -> (Vec<u64>, Pipe<u64>) {
        let (writer, updates) = Pipe::pair();
        let mut content = self.content();
        content.watchers.push(writer);
        (content.list.clone(), updates)
    }

    fn watch_by_stream(&self) -> (Vec<u64>, Pipe<u64>) {
        let content = self.content();
        let updates = content.updates.as_ref().map(broadcast::Sender::subscribe);
        let updates = stream::unfold(updates, async |it| {
            let mut updates = it?;
            let number = updates.recv().await.ok()?;
            Some((number, Some(updates)))
        });
        (content.list.clone(), Pipe::from_stream(updates))
    }

    async fn watch_in_parts(&self, name: &str) -> Result<Snapshot, NoSuchList> {
        if name != "all" {
            return Err(NoSuchList(name.into()));
        }
        let (list, appended) = self.watch();
        let doubled = Pipe::from_items(list.clone().into_iter().map(|it| 2 * it));
        let lists = BTreeMap::from([("all".into(), list)]);
        Ok(Snapshot { lists, appended, doubled: Some(doubled) })
    }
}

async fn connect(board: &Worker<Blackboard>) -> BoardClient {
    board.connect(()).await.expect("connect to it")
}

async fn start() -> Worker<Blackboard> {
    Blackboard::spawner().start(()).await.expect("start a worker")
}

const WRITERS: u64 = 4;
const UPDATES: u64 = 500;

/// Appends from several connections, while others begin to watch.
async fn watch_while_many_write<F>(watch: F)
where
    F: AsyncFn(&BoardClient) -> Result<(Vec<u64>, Pipe<u64>), CallError>,
{
    let board = start().await;
    let writers = (0..WRITERS).map(async |writer| {
        let client = connect(&board).await;
        for number in 0..UPDATES {
            client.append(writer * UPDATES + number).await.expect("call it");
        }
    });
    let watchers = (0..30).map(async |number| {
        let client = connect(&board).await;
        // They begin at different times.
        for _ in 0..10 * number {
            client.watchers().await.expect("call it");
        }
        watch(&client).await.expect("call it")
    });

    let (watching, _) = soon(async { join!(join_all(watchers), join_all(writers)) }).await;
    let client = connect(&board).await;
    client.finish().await.expect("call it");
    let (list, _) = client.watch().await.expect("call it");

    assert_eq!(list.len() as u64, WRITERS * UPDATES);
    let mut begun = Vec::new();
    for (mut seen, updates) in watching {
        begun.push(seen.len());
        seen.extend(elements(updates).await);
        assert!(seen == list, "from {begun:?}: {} of {}", seen.len(), list.len());
    }
    begun.dedup();
    assert!(begun.len() > 1, "they began at different times: {begun:?}");
}

#[rpc_parallel::test]
async fn no_update_is_lost_or_doubled_while_many_write() {
    watch_while_many_write(async |it| it.watch().await).await;
}

#[rpc_parallel::test]
async fn no_update_of_a_stream_is_lost_or_doubled_while_many_write() {
    watch_while_many_write(async |it| it.watch_by_stream().await).await;
}

#[rpc_parallel::test]
async fn the_state_comes_first_and_then_its_updates() {
    let board = connect(&start().await).await;
    board.append(1).await.expect("call it");

    let (state, mut updates) = board.watch().await.expect("call it");
    board.append(2).await.expect("call it");
    let second = soon(updates.next()).await.and_then(Result::ok);
    board.append(3).await.expect("call it");
    board.finish().await.expect("call it");

    assert_eq!((state, second), (vec![1], Some(2)));
    assert_eq!(elements(updates).await, [3]);
}

#[rpc_parallel::test]
async fn a_state_function_may_fail_and_its_state_may_be_any_type() {
    let board = connect(&start().await).await;
    board.append(7).await.expect("call it");

    let refused = board.watch_in_parts("none").await.err();
    let snapshot = board.watch_in_parts("all").await.expect("there is such a list");
    board.append(8).await.expect("call it");
    board.finish().await.expect("call it");

    assert_eq!(refused, Some(FunctionError::Function(NoSuchList("none".into()))));
    assert_eq!(snapshot.lists, BTreeMap::from([("all".into(), vec![7])]));
    assert_eq!(elements(snapshot.appended).await, [8]);
    assert_eq!(elements(snapshot.doubled.expect("it is there")).await, [14]);
}

#[rpc_parallel::test]
async fn who_stops_watching_is_forgotten() {
    let board = connect(&start().await).await;
    let (_, first) = board.watch().await.expect("call it");
    let (_, second) = board.watch().await.expect("call it");
    assert_eq!(board.watchers().await, Ok(2));

    drop(first);
    soon(board.until_watched_by(1)).await.expect("call it");
    board.append(1).await.expect("call it");
    board.finish().await.expect("call it");

    assert_eq!(elements(second).await, [1]);
}

/// A worker that tells what it does, to whoever wants to know.
#[rpc_parallel::worker]
trait Talks {
    fn work(&self, what: &str);
    fn log(&self) -> Pipe<String>;
}

#[derive(Default, WorkerState)]
struct Talker(Mutex<Vec<PipeWriter<String>>>);

#[rpc_parallel::worker]
impl Talks for Talker {
    fn work(&self, what: &str) {
        let mut listeners = self.0.lock().expect("nobody panics in here");
        listeners.retain(|it| it.try_send(format!("did {what}")).is_ok());
    }

    fn log(&self) -> Pipe<String> {
        let (writer, lines) = Pipe::pair();
        self.0.lock().expect("nobody panics in here").push(writer);
        lines
    }
}

#[rpc_parallel::test]
async fn a_worker_streams_its_log_to_whoever_asks() {
    let talker = Talker::spawn(()).await.expect("start a worker");

    let mut first = talker.log().await.expect("call it");
    talker.work("this").await.expect("call it");
    let mut second = talker.log().await.expect("call it");
    talker.work("that").await.expect("call it");

    drop(talker);

    let mut lines = [Vec::new(), Vec::new()];
    for (lines, (pipe, count)) in lines.iter_mut().zip([(&mut first, 2), (&mut second, 1)]) {
        for _ in 0..count {
            lines.extend(soon(pipe.next()).await.and_then(Result::ok));
        }
    }
    assert_eq!(lines, [vec!["did this", "did that"], vec!["did that"]]);
}
