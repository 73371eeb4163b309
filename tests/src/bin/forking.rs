//! A program that forks without exec, in its master or in a worker, and shows that the end of the
//! forked child harms neither: `forking master HOW` and `forking worker HOW`.
//!
//! It prints `unharmed` at its end.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use fork::{Fork, fork};
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, ends_within, kill};
use tokio::sync::Notify;

#[rpc_parallel::worker]
trait Forks {
    fn pid(&self) -> u32;
    /// Waits until it is released.
    async fn wait(&self);
    fn release(&self);
    fn count_up(&self) -> Pipe<u64>;
    async fn sum(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    /// Starts a worker of its own.
    async fn beget(&self) -> Result<(), AnyError>;
    /// Forks a child that ends in this way, and waits for its end.
    fn fork(&self, how: &str) -> Result<(), AnyError>;
    /// Calls the worker of its own.
    async fn pid_of_own(&self) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Forker {
    released: Notify,
    own: Mutex<Option<ForksClient>>,
}

impl Forker {
    fn own(&self) -> Option<ForksClient> {
        self.own.lock().expect("no code panics with this lock").clone()
    }
}

#[rpc_parallel::worker]
impl Forks for Forker {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn wait(&self) {
        self.released.notified().await;
    }

    fn release(&self) {
        self.released.notify_one();
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn sum(&self, mut numbers: Pipe<u64>) -> Result<u64, AnyError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }

    async fn beget(&self) -> Result<(), AnyError> {
        let own = Forker::spawn(()).await?;
        *self.own.lock().expect("no code panics with this lock") = Some(own);
        Ok(())
    }

    fn fork(&self, how: &str) -> Result<(), AnyError> {
        match fork()? {
            Fork::Parent(child) => {
                wait_for(child);
                Ok(())
            }
            Fork::Child => match how {
                "exit" => std::process::exit(0),
                "panic" => panic!("in the child"),
                "panic-in-thread" => {
                    let _ = std::thread::spawn(|| panic!("in a thread of the child")).join();
                    std::process::exit(0)
                }
                "drop" => {
                    drop(self.own.lock().expect("no code panics with this lock").take());
                    std::process::exit(0)
                }
                how => unreachable!("how is `{how}`?"),
            },
        }
    }

    async fn pid_of_own(&self) -> Result<u32, AnyError> {
        let own = self.own().ok_or_else(|| std::io::Error::other("it has none"))?;
        Ok(own.pid().await?)
    }
}

fn wait_for(child: i32) {
    let child = child.try_into().expect("a pid is positive");
    assert!(ends_within(child, PATIENCE), "the child ends");
}

/// Polls a future without the runtime, which a forked child must leave alone.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn in_worker(how: &str) -> anyhow::Result<()> {
    let worker = Forker::spawner().name("forker").spawn(()).await?;
    worker.beget().await?;
    let own = worker.pid_of_own().await?;
    let waiting = worker.wait();
    tokio::pin!(waiting);
    anyhow::ensure!(poll_once(&mut waiting).is_pending());

    worker.fork(how).await?;

    worker.release().await?;
    waiting.await?;
    anyhow::ensure!(worker.pid_of_own().await? == own, "the worker has another worker");
    // The master has heard of no panic in the worker.
    kill(worker.pid().await?);
    let Err(error) = worker.wait().await else { anyhow::bail!("it was killed") };
    let CallErrorKind::WorkerDied(failure) = error.kind() else { anyhow::bail!("{error}") };
    anyhow::ensure!(failure.panic().is_none(), "{failure}");
    Ok(())
}

/// Forks; returns in the child only if it is to return from `main`.
async fn in_master(how: &str) -> anyhow::Result<()> {
    let spawned = Forker::spawner().name("spawned").spawn(()).await?;
    let handle = Forker::spawner().name("started").start(()).await?;
    let started = handle.connect(()).await?;
    let served = Forker::serve(()).await?;
    served.address()?;
    let waiting = tokio::spawn(spawned.wait());
    let (numbers, sum) = Pipe::pair();
    let sum = tokio::spawn(started.sum(sum));
    numbers.send(7).await?;
    let mut counting = spawned.count_up().await?;
    anyhow::ensure!(matches!(counting.next().await, Some(Ok(0))));
    let pids = (spawned.pid().await?, started.pid().await?);

    match fork()? {
        Fork::Parent(child) => wait_for(child),
        Fork::Child => match how {
            "return" => return Ok(()),
            "exit" => std::process::exit(0),
            "panic" => panic!("in the child"),
            "drop" => {
                drop((spawned, handle, started, waiting, numbers, sum, counting));
                std::process::exit(0)
            }
            "spawn" => {
                let spawned = poll_once(&mut Box::pin(Forker::spawn(()).into_future()));
                let Poll::Ready(Err(error)) = spawned else { std::process::exit(1) };
                eprintln!("{}", AnyError::from(error));
                std::process::exit(0)
            }
            how => anyhow::bail!("how is `{how}`?"),
        },
    }

    for expected in 1..10_000 {
        anyhow::ensure!(matches!(counting.next().await, Some(Ok(it)) if it == expected));
    }
    spawned.release().await?;
    waiting.await??;
    numbers.send(8).await?;
    drop(numbers);
    anyhow::ensure!(sum.await?? == 15, "no element is lost");
    anyhow::ensure!(pids == (spawned.pid().await?, started.pid().await?), "they are the same");
    let other = Forker::spawn(()).await?;
    other.pid().await?;
    // Another process reaches what this one serves.
    anyhow::ensure!(served.connect(()).await?.pid().await? == std::process::id());
    handle.shutdown().await?;
    spawned.shutdown().await?;
    Ok(())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, who, how] = &args[..] else { anyhow::bail!("forking WHO HOW") };
    let master = std::process::id();
    match who.as_str() {
        "master" => in_master(how).await?,
        "worker" => in_worker(how).await?,
        who => anyhow::bail!("who is `{who}`?"),
    }
    if std::process::id() == master {
        println!("unharmed");
    }
    Ok(())
}
