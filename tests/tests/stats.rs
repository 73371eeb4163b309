//! A worker tells how it is doing.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

use rpc_parallel::WorkerStats;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, kill};
use rpc_parallel_tests::waiting::{elements, soon};
use tokio::time::Instant;

#[rpc_parallel::worker]
trait Busy {
    fn len(&self, bytes: &[u8]) -> usize;
    fn fails(&self);
    async fn wait(&self);
    #[worker(one_way)]
    fn note(&self);
    fn count(&self, to: u64) -> Pipe<u64>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    /// Keeps so many bytes of memory.
    fn keep(&self, bytes: usize);
    /// Computes for so long.
    fn compute(&self, millis: u64);
    /// Reads from another worker.
    async fn fetch(&self, other: Worker<Bee>, to: u64) -> Result<usize, AnyError>;
    /// Returns the process of another worker, and how many connections it says there are.
    async fn ask(&self, other: Worker<Bee>) -> Result<(u32, u64), AnyError>;
}

#[derive(Default, WorkerState)]
struct Bee {
    kept: Mutex<Vec<Vec<u8>>>,
}

#[rpc_parallel::worker]
impl Busy for Bee {
    fn len(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn fails(&self) {
        panic!("as it was told");
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
        self.kept.lock().expect("nobody panics in here").push(vec![7; bytes]);
    }

    fn compute(&self, millis: u64) {
        let until = std::time::Instant::now() + Duration::from_millis(millis);
        let mut turns = 0_u64;
        while std::time::Instant::now() < until {
            turns = black_box(turns + 1);
        }
    }

    async fn ask(&self, other: Worker<Bee>) -> Result<(u32, u64), AnyError> {
        let stats = other.stats().await?;
        Ok((stats.pid(), stats.connections()))
    }

    async fn fetch(&self, other: Worker<Bee>, to: u64) -> Result<usize, AnyError> {
        let other = other.connect(()).await?;
        Ok(elements(other.count(to).await?).await.len())
    }
}

async fn bee() -> BusyClient {
    Bee::spawn(()).await.expect("start a worker")
}

async fn stats(client: &BusyClient) -> WorkerStats {
    let asked = soon(tokio::spawn(client.stats())).await.expect("it does not panic");
    asked.expect("it answers")
}

/// Asks until the answer is as it should be.
async fn stats_become(client: &BusyClient, wanted: impl Fn(&WorkerStats) -> bool) -> WorkerStats {
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = stats(client).await;
        if wanted(&stats) {
            return stats;
        }
        // Each answer is waited for: there is nothing else that tells of a change.
        assert!(Instant::now() < until, "it stays {stats}");
    }
}

#[rpc_parallel::test]
async fn a_worker_that_nobody_has_called_has_done_nothing() {
    let bee = bee().await;

    let stats = stats(&bee).await;

    assert_eq!(Some(stats.pid()), bee.label().pid());
    assert_eq!(stats.host(), bee.label().host());
    assert!(stats.uptime() < PATIENCE, "{stats}");
    assert!((500_000..500_000_000).contains(&stats.resident_memory()), "{stats}");
    assert!(stats.cpu_time() < PATIENCE, "{stats}");
    assert_eq!((stats.calls_in_flight(), stats.calls_done()), (0, 0));
    assert_eq!((stats.open_pipes(), stats.connections()), (0, 1));
}

#[rpc_parallel::test]
async fn calls_are_counted_however_they_end() {
    let bee = bee().await;

    assert_eq!(bee.len(&[1, 2]).await, Ok(2));
    assert!(bee.fails().await.is_err());
    assert!(bee.wait().timeout(Duration::from_millis(10)).await.is_err());
    bee.note().await.expect("it is sent");

    // The master asks over a lane of its own, which is no call.
    stats_become(&bee, |it| (it.calls_in_flight(), it.calls_done()) == (0, 4)).await;
    assert_eq!(stats(&bee).await.calls_done(), 4);
}

#[rpc_parallel::test]
async fn a_worker_tells_while_its_functions_compute() {
    let bee = bee().await;
    let computing = tokio::spawn(bee.compute(300_000));

    let stats = stats_become(&bee, |it| it.calls_in_flight() == 1).await;

    assert_eq!(stats.calls_done(), 0);
    assert!(!computing.is_finished());
    computing.abort();
}

#[rpc_parallel::test]
async fn who_holds_a_handle_asks_as_its_master_does() {
    let handle = Bee::spawner().start(()).await.expect("start a worker");
    let elsewhere = bee().await;

    // What asks borrows nothing.
    let here = soon(tokio::spawn(handle.stats())).await.expect("it does not panic");
    let here = here.expect("it answers");
    let there = soon(elsewhere.ask(handle)).await.expect("it answers");

    assert_eq!(there, (here.pid(), 0), "who only asks has no connection that counts");
}

#[rpc_parallel::test]
async fn a_worker_that_is_dead_tells_nothing_and_who_asks_is_told_why() {
    let worker = Bee::spawner().start(()).await.expect("start a worker");
    let bee = worker.connect(()).await.expect("it listens");
    kill(bee.label().pid().expect("it has a process"));
    soon(bee.closed()).await;

    for asked in [soon(worker.stats()).await, soon(bee.stats()).await] {
        let error = asked.expect_err("it is dead").to_string();
        assert!(error.starts_with("failed to get the stats of worker stats::Bee (pid "), "{error}");
        assert!(error.contains("was killed by signal 9 (SIGKILL)"), "{error}");
    }
}

#[rpc_parallel::test]
async fn calls_that_wait_are_in_flight() {
    let bee = bee().await;
    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(bee.wait())).collect();

    stats_become(&bee, |it| it.calls_in_flight() == 10).await;

    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let stats = stats_become(&bee, |it| it.calls_in_flight() == 0).await;
    assert!(stats.calls_done() >= 10, "{stats}");
}

#[rpc_parallel::test]
async fn bytes_are_counted_in_both_directions() {
    const LEN: usize = 3_000_000;
    let bee = bee().await;

    assert_eq!(bee.len(&vec![7; LEN]).await, Ok(LEN));
    let sent = stats(&bee).await;
    elements(bee.count(200_000).await.expect("call it")).await;
    let received = stats(&bee).await;

    assert!((3_000_000..3_100_000).contains(&sent.bytes_received()), "{sent}");
    assert!(sent.bytes_sent() < 10_000, "{sent}");
    assert!((200_000..2_000_000).contains(&received.bytes_sent()), "{received}");
}

#[rpc_parallel::test]
async fn pipes_are_counted_while_they_are_open() {
    let bee = bee().await;
    let (writer, numbers) = Pipe::<u64>::pair();
    let summing = tokio::spawn(bee.sum(numbers));
    let reading = bee.count(1_000_000_000).await.expect("call it");

    stats_become(&bee, |it| it.open_pipes() == 2).await;

    drop(reading);
    stats_become(&bee, |it| it.open_pipes() == 1).await;
    drop(writer);
    assert_eq!(soon(summing).await.expect("nothing panics"), Ok(0));
    stats_become(&bee, |it| it.open_pipes() == 0).await;
}

#[rpc_parallel::test]
async fn connections_are_counted_while_they_are_open() {
    let bee = Bee::spawner().start(()).await.expect("start a worker");
    let [first, second] = [bee.connect(()).await, bee.connect(()).await];
    let (first, second) = (first.expect("it listens"), second.expect("it listens"));
    let waiting = tokio::spawn(second.wait());
    let stats = stats_become(&first, |it| it.calls_in_flight() == 1).await;
    assert_eq!(stats.connections(), 2);

    second.close();

    // Its calls end with it, one after the other.
    stats_become(&first, |it| (it.connections(), it.calls_in_flight()) == (1, 0)).await;
    assert!(soon(waiting).await.expect("nothing panics").is_err());
}

#[rpc_parallel::test]
async fn what_a_worker_fetches_from_another_is_counted_at_both() {
    let other = Bee::spawner().start(()).await.expect("start a worker");
    let bee = bee().await;
    let before = stats(&bee).await;

    assert_eq!(bee.fetch(other.clone(), 100_000).await, Ok(100_000));

    let after = stats(&bee).await;
    let there = stats(&other.connect(()).await.expect("it listens")).await;
    assert!(after.bytes_received() - before.bytes_received() > 100_000, "{before}\n{after}");
    assert!(there.bytes_sent() > 100_000, "{there}");
    assert_eq!(after.connections(), 1, "those that others have opened");
}

#[rpc_parallel::test]
async fn memory_and_time_that_a_worker_takes_are_told() {
    const LEN: usize = 100_000_000;
    let bee = bee().await;
    let before = stats(&bee).await;

    bee.keep(LEN).await.expect("call it");
    bee.compute(50).await.expect("call it");

    let after = stats(&bee).await;
    let memory = after.resident_memory() - before.resident_memory();
    assert!((LEN as u64 / 10 * 9..LEN as u64 / 10 * 12).contains(&memory), "{before}\n{after}");
    assert!(after.uptime() >= before.uptime() + Duration::from_millis(50), "{before}\n{after}");
    // Others want the processors too.
    assert!(after.cpu_time() > before.cpu_time() + Duration::from_millis(5), "{before}\n{after}");
}

#[rpc_parallel::test]
async fn a_worker_in_this_process_tells_of_this_process() {
    let bee = Bee::serve(()).await.expect("it serves");
    let client = bee.connect(()).await.expect("it serves");

    let stats = stats(&client).await;

    assert_eq!(stats.pid(), std::process::id());
    assert!(stats.connections() >= 1, "{stats}");
}

#[rpc_parallel::test]
async fn what_a_worker_tells_is_plain_data() {
    let stats = stats(&bee().await).await;

    let json = serde_json::to_string(&stats).expect("it is plain data");

    assert_eq!(serde_json::from_str::<WorkerStats>(&json).ok(), Some(stats));
}
