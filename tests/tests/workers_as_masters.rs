//! Every worker can be a master: in generations, and of many.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::sync::Mutex;

use futures_util::future::join_all;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{ends, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;

/// A worker that starts workers like itself.
#[rpc_parallel::worker]
trait Foremen {
    fn pid(&self) -> u32;
    /// Starts so many workers, all at once, and keeps them.
    async fn hire(&self, count: u32) -> Result<(), AnyError>;
    /// Has those it has hired hire in turn: one each, so many generations.
    async fn found(&self, generations: u32) -> Result<(), AnyError>;
    /// Returns the processes of all that it has hired, and of those that they have hired.
    async fn pids(&self) -> Result<Vec<u32>, AnyError>;
    /// Adds a number for itself and all generations below.
    async fn sum(&self, number: u64) -> Result<u64, AnyError>;
    fn count_up(&self) -> Pipe<u64>;
    /// Returns the numbers that the last generation counts, through all the others.
    async fn relay(&self) -> Result<Pipe<u64>, AnyError>;
    async fn dismiss(&self);
    /// Starts a worker and hands its handle out.
    async fn recommend(&self) -> Result<Worker<Foreman>, AnyError>;
    async fn visit(&self, other: Worker<Foreman>) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Foreman {
    hired: Mutex<Vec<ForemenClient>>,
}

impl Foreman {
    fn hired(&self) -> Vec<ForemenClient> {
        self.hired.lock().expect("nobody panics in here").clone()
    }
}

#[rpc_parallel::worker]
impl Foremen for Foreman {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn hire(&self, count: u32) -> Result<(), AnyError> {
        let started = join_all((0..count).map(|_| Foreman::spawn(()))).await;
        let started: Result<Vec<_>, _> = started.into_iter().collect();
        self.hired.lock().expect("nobody panics in here").extend(started?);
        Ok(())
    }

    async fn found(&self, generations: u32) -> Result<(), AnyError> {
        let Some(generations) = generations.checked_sub(1) else { return Ok(()) };
        self.hire(1).await?;
        for hired in self.hired() {
            hired.found(generations).await?;
        }
        Ok(())
    }

    async fn pids(&self) -> Result<Vec<u32>, AnyError> {
        let mut pids = Vec::new();
        for hired in self.hired() {
            pids.push(hired.pid().await?);
            pids.extend(hired.pids().await?);
        }
        Ok(pids)
    }

    async fn sum(&self, number: u64) -> Result<u64, AnyError> {
        let mut sum = number;
        for hired in self.hired() {
            sum += hired.sum(number).await?;
        }
        Ok(sum)
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn relay(&self) -> Result<Pipe<u64>, AnyError> {
        match self.hired().first() {
            Some(hired) => Ok(hired.relay().await?),
            None => Ok(self.count_up()),
        }
    }

    async fn dismiss(&self) {
        self.hired.lock().expect("nobody panics in here").clear();
    }

    async fn recommend(&self) -> Result<Worker<Foreman>, AnyError> {
        Ok(Foreman::spawner().start(()).await?)
    }

    async fn visit(&self, other: Worker<Foreman>) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.pid().await?)
    }
}

async fn start() -> ForemenClient {
    Foreman::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn ten_generations_call_and_stream_through_each_other() {
    let first = start().await;

    first.found(9).await.expect("call it");

    let pids = first.pids().await.expect("call it");
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 9);
    assert_eq!(soon(first.sum(7)).await, Ok(70));
    let mut numbers = first.relay().await.expect("call it");
    for number in 0..10_000 {
        assert_eq!(soon(numbers.next()).await.and_then(Result::ok), Some(number));
    }
}

#[rpc_parallel::test]
async fn a_worker_starts_a_hundred_at_once_and_ends_them() {
    let first = start().await;

    first.hire(100).await.expect("call it");

    assert_eq!(soon(first.sum(1)).await, Ok(101));
    let pids = first.pids().await.expect("call it");
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 100);
    first.dismiss().await.expect("call it");
    for pid in pids {
        assert!(ends(pid).await, "nobody holds it any more");
    }
    assert_eq!(soon(first.sum(1)).await, Ok(1));
}

#[rpc_parallel::test]
async fn a_tree_ends_with_the_client_of_its_root() {
    let first = start().await;
    first.hire(3).await.expect("call it");
    first.found(4).await.expect("call it");
    let pids = first.pids().await.expect("call it");
    assert_eq!(pids.len(), 4 * 4);

    drop(first);

    for pid in pids {
        assert!(ends(pid).await, "it has lost its master");
    }
}

#[rpc_parallel::test]
async fn everybody_connects_to_what_a_worker_has_started() {
    let (first, other) = (start().await, start().await);

    let recommended = first.recommend().await.expect("call it");

    let client = recommended.connect(()).await.expect("connect to it");
    let pid = client.pid().await.expect("call it");
    assert_eq!(other.visit(recommended.clone()).await, Ok(pid));
    assert_eq!(first.visit(recommended.clone()).await, Ok(pid));
    drop(client);
    assert!(!is_gone(pid), "it lives with its master");
    drop(first);
    assert!(ends(pid).await, "it has lost its master");
}

#[rpc_parallel::test]
async fn a_worker_that_was_started_by_a_killed_worker_takes_nobody_along() {
    let (first, other) = (start().await, start().await);
    let recommended = first.recommend().await.expect("call it");
    let below = other.visit(recommended).await.expect("call it");

    kill(first.pid().await.expect("call it"));

    assert!(ends(below).await, "it has lost its master");
    assert_eq!(soon(other.sum(1)).await, Ok(1));
}

#[test]
fn the_arguments_of_ten_generations_tell_the_master_and_the_name_of_each() {
    let program =
        Program::start(Command::new(env!("CARGO_BIN_EXE_left_behind")).args(["idle", "10"]));
    let (mut workers, mut ready) = (Vec::new(), false);
    while workers.len() < 10 || !ready {
        let line = program.line();
        let pid = line.strip_prefix("worker ").map(str::parse::<u32>);
        workers.extend(pid.transpose().expect("it is a process id"));
        ready |= line == "ready";
    }

    let arguments = |pid: u32| {
        let read = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
        read.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()
    };

    let mut master = program.pid();
    for (at, worker) in workers.into_iter().enumerate() {
        let [_, of, name] = &arguments(worker)[..] else { panic!("{:?}", arguments(worker)) };
        assert_eq!((of, name), (&format!("worker-of-{master}"), &format!("heir-{}", 10 - at)));
        master = worker;
    }
    assert!(program.end().status.success());
}
