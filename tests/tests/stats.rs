//! Statistics of workers.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

use rpc_parallel::WorkerStats;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{TEST_TIMEOUT, kill};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::{elements, soon};
use tokio::time::Instant;

#[rpc_parallel::worker]
trait Load {
    fn len(&self, bytes: &[u8]) -> usize;
    fn fails(&self);
    async fn wait(&self);
    #[worker(one_way)]
    fn note(&self);
    fn count(&self, to: u64) -> Pipe<u64>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    /// Allocates this many bytes and keeps them.
    fn keep(&self, bytes: usize);
    /// Uses the processor for this many milliseconds.
    fn compute(&self, millis: u64);
    /// Reads a pipe of another worker.
    async fn fetch(&self, other: Worker<LoadWorker>, to: u64) -> Result<usize, AnyError>;
    /// Returns the process id and the number of connections in the stats of another worker.
    async fn stats_of(&self, other: Worker<LoadWorker>) -> Result<(u32, u64), AnyError>;
}

#[derive(Default, WorkerState)]
struct LoadWorker {
    kept: Mutex<Vec<Vec<u8>>>,
}

#[rpc_parallel::worker]
impl Load for LoadWorker {
    fn len(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn fails(&self) {
        panic!("scripted panic");
    }

    async fn wait(&self) {
        std::future::pending::<()>().await;
    }

    fn note(&self) {}

    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    async fn sum(&self, mut numbers: Pipe<u64>) -> Result<u64, AnyError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    fn keep(&self, bytes: usize) {
        self.kept.lock().expect("the lock is not poisoned").push(vec![7; bytes]);
    }

    fn compute(&self, millis: u64) {
        let until = std::time::Instant::now() + Duration::from_millis(millis);
        let mut turns = 0_u64;
        while std::time::Instant::now() < until {
            turns = black_box(turns + 1);
        }
    }

    async fn stats_of(&self, other: Worker<LoadWorker>) -> Result<(u32, u64), AnyError> {
        let stats = other.stats().await?;
        Ok((stats.pid(), stats.connections()))
    }

    async fn fetch(&self, other: Worker<LoadWorker>, to: u64) -> Result<usize, AnyError> {
        let other = other.connect(()).await?;
        Ok(elements(other.count(to).await?).await.len())
    }
}

async fn spawn() -> LoadClient {
    LoadWorker::spawn_ok(()).await
}

async fn stats(client: &LoadClient) -> WorkerStats {
    let stats = soon(tokio::spawn(client.stats())).await.expect("the task does not panic");
    stats.expect("the worker answers")
}

/// Gets the stats repeatedly until they satisfy the condition.
async fn stats_become(client: &LoadClient, wanted: impl Fn(&WorkerStats) -> bool) -> WorkerStats {
    let until = Instant::now() + TEST_TIMEOUT;
    loop {
        let stats = stats(client).await;
        if wanted(&stats) {
            return stats;
        }
        // No event signals a change, so this polls; each request waits for its answer.
        assert!(Instant::now() < until, "the last stats are {stats}");
    }
}

#[rpc_parallel::test]
async fn new_worker_has_no_calls_and_one_connection() {
    let client = spawn().await;

    let stats = stats(&client).await;

    assert_eq!(Some(stats.pid()), client.label().pid());
    assert_eq!(stats.host(), client.label().host());
    assert!(stats.uptime() < TEST_TIMEOUT, "{stats}");
    assert!((500_000..500_000_000).contains(&stats.resident_memory()), "{stats}");
    assert!(stats.cpu_time() < TEST_TIMEOUT, "{stats}");
    assert_eq!((stats.calls_in_flight(), stats.calls_done()), (0, 0));
    assert_eq!((stats.open_pipes(), stats.connections()), (0, 1));
}

#[rpc_parallel::test]
async fn calls_are_counted_regardless_of_outcome() {
    let client = spawn().await;

    assert_eq!(client.len(&[1, 2]).await, Ok(2));
    assert!(client.fails().await.is_err());
    assert!(client.wait().timeout(Duration::from_millis(10)).await.is_err());
    client.note().await.expect("the call is sent");

    // The master requests stats over the control connection, which is not counted as a call.
    stats_become(&client, |it| (it.calls_in_flight(), it.calls_done()) == (0, 4)).await;
    assert_eq!(stats(&client).await.calls_done(), 4);
}

#[rpc_parallel::test]
async fn stats_are_available_while_functions_compute() {
    let client = spawn().await;
    let computing = tokio::spawn(client.compute(300_000));

    let stats = stats_become(&client, |it| it.calls_in_flight() == 1).await;

    assert_eq!(stats.calls_done(), 0);
    assert!(!computing.is_finished());
    computing.abort();
}

#[rpc_parallel::test]
async fn stats_by_handle_open_no_counted_connection() {
    let worker = LoadWorker::start_ok(()).await;
    let other = spawn().await;

    // The future of `stats` borrows nothing.
    let here = soon(tokio::spawn(worker.stats())).await.expect("the task does not panic");
    let here = here.expect("the worker answers");
    let there = soon(other.stats_of(worker)).await.expect("the worker answers");

    assert_eq!(there, (here.pid(), 0), "a stats request does not count as a connection");
}

#[rpc_parallel::test]
async fn stats_of_dead_worker_fail_with_exit_reason() {
    let worker = LoadWorker::start_ok(()).await;
    let client = worker.connect_ok().await;
    kill(client.label().pid().expect("the label has a pid"));
    soon(client.closed()).await;

    for stats in [soon(worker.stats()).await, soon(client.stats()).await] {
        let error = stats.expect_err("the worker was killed").to_string();
        assert!(
            error.starts_with("failed to get the stats of worker stats::LoadWorker (pid "),
            "{error}"
        );
        assert!(error.contains("was killed by signal 9 (SIGKILL)"), "{error}");
    }
}

#[rpc_parallel::test]
async fn waiting_calls_are_in_flight() {
    let client = spawn().await;
    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(client.wait())).collect();

    stats_become(&client, |it| it.calls_in_flight() == 10).await;

    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = stats_become(&client, |it| it.calls_in_flight() == 0).await;
    assert!(stats.calls_done() >= 10, "{stats}");
}

#[rpc_parallel::test]
async fn bytes_are_counted_in_both_directions() {
    const LEN: usize = 3_000_000;
    let client = spawn().await;

    assert_eq!(client.len(&vec![7; LEN]).await, Ok(LEN));
    let sent = stats(&client).await;
    elements(client.count(200_000).await.expect("the call succeeds")).await;
    let received = stats(&client).await;

    assert!((3_000_000..3_100_000).contains(&sent.bytes_received()), "{sent}");
    assert!(sent.bytes_sent() < 10_000, "{sent}");
    assert!((200_000..2_000_000).contains(&received.bytes_sent()), "{received}");
}

#[rpc_parallel::test]
async fn open_pipes_are_counted() {
    let client = spawn().await;
    let (writer, numbers) = Pipe::<u64>::pair();
    let summing = tokio::spawn(client.sum(numbers));
    let reading = client.count(1_000_000_000).await.expect("the call succeeds");

    stats_become(&client, |it| it.open_pipes() == 2).await;

    drop(reading);
    stats_become(&client, |it| it.open_pipes() == 1).await;
    drop(writer);
    assert_eq!(soon(summing).await.expect("the task does not panic"), Ok(0));
    stats_become(&client, |it| it.open_pipes() == 0).await;
}

#[rpc_parallel::test]
async fn open_connections_are_counted() {
    let worker = LoadWorker::start_ok(()).await;
    let (first, second) = (worker.connect_ok().await, worker.connect_ok().await);
    let waiting = tokio::spawn(second.wait());
    let stats = stats_become(&first, |it| it.calls_in_flight() == 1).await;
    assert_eq!(stats.connections(), 2);

    second.close();

    // The calls of a connection end one after the other.
    stats_become(&first, |it| (it.connections(), it.calls_in_flight()) == (1, 0)).await;
    assert!(soon(waiting).await.expect("the task does not panic").is_err());
}

#[rpc_parallel::test]
async fn bytes_between_workers_are_counted_by_both() {
    let other = LoadWorker::start_ok(()).await;
    let client = spawn().await;
    let before = stats(&client).await;

    assert_eq!(client.fetch(other.clone(), 100_000).await, Ok(100_000));

    let after = stats(&client).await;
    let there = stats(&other.connect_ok().await).await;
    assert!(after.bytes_received() - before.bytes_received() > 100_000, "{before}\n{after}");
    assert!(there.bytes_sent() > 100_000, "{there}");
    assert_eq!(after.connections(), 1, "only accepted connections count");
}

#[rpc_parallel::test]
async fn memory_and_cpu_time_are_measured() {
    const LEN: usize = 100_000_000;
    let client = spawn().await;
    let before = stats(&client).await;

    client.keep(LEN).await.expect("the call succeeds");
    client.compute(50).await.expect("the call succeeds");

    let after = stats(&client).await;
    let memory = after.resident_memory() - before.resident_memory();
    assert!((LEN as u64 / 10 * 9..LEN as u64 / 10 * 12).contains(&memory), "{before}\n{after}");
    assert!(after.uptime() >= before.uptime() + Duration::from_millis(50), "{before}\n{after}");
    // The processors are shared with other processes.
    assert!(after.cpu_time() > before.cpu_time() + Duration::from_millis(5), "{before}\n{after}");
}

#[rpc_parallel::test]
async fn stats_of_served_worker_describe_its_process() {
    let worker = LoadWorker::serve(()).await.expect("the server starts");
    let client = worker.connect_ok().await;

    let stats = stats(&client).await;

    assert_eq!(stats.pid(), std::process::id());
    assert!(stats.connections() >= 1, "{stats}");
}

#[rpc_parallel::test]
async fn stats_survive_serialization() {
    let stats = stats(&spawn().await).await;

    let json = serde_json::to_string(&stats).expect("stats can be serialized");

    assert_eq!(serde_json::from_str::<WorkerStats>(&json).ok(), Some(stats));
}
