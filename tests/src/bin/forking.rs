//! Forks without exec in its master or in a worker: `forking master CHILD` or
//! `forking worker CHILD`, where CHILD says how the forked child ends.
//!
//! It prints `unaffected` after it has checked that parent, workers and connections still work.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use fork::{Fork, fork};
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends_within, kill};
use tokio::sync::Notify;

#[rpc_parallel::worker]
trait Forks {
    fn pid(&self) -> u32;
    /// Waits until `release` is called.
    async fn wait(&self);
    fn release(&self);
    fn endless_numbers(&self) -> Pipe<u64>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    /// Starts a worker.
    async fn start_worker(&self) -> Result<(), AnyError>;
    /// Forks a child that ends in this way, and waits for its end.
    fn fork(&self, child: &str) -> Result<(), AnyError>;
    /// Returns the process id of the worker that this one has started.
    async fn pid_of_worker(&self) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct ForkingWorker {
    released: Notify,
    worker: Mutex<Option<ForksClient>>,
}

impl ForkingWorker {
    fn worker(&self) -> Option<ForksClient> {
        self.worker.lock().expect("no thread panics with the lock").clone()
    }
}

#[rpc_parallel::worker]
impl Forks for ForkingWorker {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn wait(&self) {
        self.released.notified().await;
    }

    fn release(&self) {
        self.released.notify_one();
    }

    fn endless_numbers(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn sum(&self, mut numbers: Pipe<u64>) -> Result<u64, AnyError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn start_worker(&self) -> Result<(), AnyError> {
        let worker = ForkingWorker::spawn(()).await?;
        *self.worker.lock().expect("no thread panics with the lock") = Some(worker);
        Ok(())
    }

    fn fork(&self, child: &str) -> Result<(), AnyError> {
        match fork()? {
            Fork::Parent(pid) => {
                wait_for(pid);
                Ok(())
            }
            Fork::Child => match child {
                "exit" => std::process::exit(0),
                "panic" => panic!("panic in the child"),
                "panic-in-thread" => {
                    let _ = std::thread::spawn(|| panic!("panic in a thread of the child")).join();
                    std::process::exit(0)
                }
                "drop" => {
                    drop(self.worker.lock().expect("no thread panics with the lock").take());
                    std::process::exit(0)
                }
                child => unreachable!("unknown child `{child}`"),
            },
        }
    }

    async fn pid_of_worker(&self) -> Result<u32, AnyError> {
        let worker = self.worker();
        let worker = worker.ok_or_else(|| std::io::Error::other("no worker was started"))?;
        Ok(worker.pid().await?)
    }
}

fn wait_for(pid: i32) {
    let pid = pid.try_into().expect("a process id is positive");
    assert!(ends_within(pid, TEST_TIMEOUT), "the child ends");
}

/// Polls a future without the runtime, which a forked child must not use.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn in_worker(child: &str) -> anyhow::Result<()> {
    let worker = ForkingWorker::spawner().name("forking").spawn(()).await?;
    worker.start_worker().await?;
    let pid = worker.pid_of_worker().await?;
    let waiting = worker.wait();
    tokio::pin!(waiting);
    anyhow::ensure!(poll_once(&mut waiting).is_pending());

    worker.fork(child).await?;

    worker.release().await?;
    waiting.await?;
    anyhow::ensure!(worker.pid_of_worker().await? == pid, "the worker was replaced");
    // A panic in the child must not be in the failure report of the worker.
    kill(worker.pid().await?);
    let Err(error) = worker.wait().await else { anyhow::bail!("a killed worker answers") };
    let CallErrorKind::WorkerDied(failure) = error.kind() else { anyhow::bail!("{error}") };
    anyhow::ensure!(failure.panic().is_none(), "{failure}");
    Ok(())
}

/// Forks. Returns in the child only if the child ends by returning from `main`.
async fn in_master(child: &str) -> anyhow::Result<()> {
    let spawned = ForkingWorker::spawner().name("spawned").spawn(()).await?;
    let handle = ForkingWorker::spawner().name("started").start(()).await?;
    let started = handle.connect(()).await?;
    let served = ForkingWorker::serve(()).await?;
    served.address()?;
    let waiting = tokio::spawn(spawned.wait());
    let (numbers, sum) = Pipe::pair();
    let sum = tokio::spawn(started.sum(sum));
    numbers.send(7).await?;
    let mut counting = spawned.endless_numbers().await?;
    anyhow::ensure!(matches!(counting.next().await, Some(Ok(0))));
    let pids = (spawned.pid().await?, started.pid().await?);

    match fork()? {
        Fork::Parent(pid) => wait_for(pid),
        Fork::Child => match child {
            "return" => return Ok(()),
            "exit" => std::process::exit(0),
            "panic" => panic!("panic in the child"),
            "drop" => {
                drop((spawned, handle, started, waiting, numbers, sum, counting));
                std::process::exit(0)
            }
            "spawn" => {
                let spawned = poll_once(&mut Box::pin(ForkingWorker::spawn(()).into_future()));
                let Poll::Ready(Err(error)) = spawned else { std::process::exit(1) };
                eprintln!("{}", AnyError::from(error));
                std::process::exit(0)
            }
            child => anyhow::bail!("unknown child `{child}`"),
        },
    }

    for expected in 1..10_000 {
        anyhow::ensure!(matches!(counting.next().await, Some(Ok(it)) if it == expected));
    }
    spawned.release().await?;
    waiting.await??;
    numbers.send(8).await?;
    drop(numbers);
    anyhow::ensure!(sum.await?? == 15, "an element is lost");
    anyhow::ensure!(pids == (spawned.pid().await?, started.pid().await?), "a worker was replaced");
    let other = ForkingWorker::spawn(()).await?;
    other.pid().await?;
    // The served worker still accepts connections.
    anyhow::ensure!(served.connect(()).await?.pid().await? == std::process::id());
    handle.shutdown().await?;
    spawned.shutdown().await?;
    Ok(())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, process, child] = &args[..] else { anyhow::bail!("usage: forking PROCESS CHILD") };
    let master = std::process::id();
    match process.as_str() {
        "master" => in_master(child).await?,
        "worker" => in_worker(child).await?,
        process => anyhow::bail!("unknown process `{process}`"),
    }
    if std::process::id() == master {
        println!("unaffected");
    }
    Ok(())
}
