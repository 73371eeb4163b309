//! A master with generations of busy workers: `left_behind BEHAVIOR GENERATIONS`.
//!
//! Each worker prints `worker <pid>` in its `init` and `busy <pid>` when it begins its behavior. The
//! master then prints `ready` and reads commands from stdin: `return`, `panic`, `exit` and `abort`
//! end it in this way, `count` prints how many workers answer.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rpc_parallel::Spawner;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::print_line;
use serde::{Deserialize, Serialize};

/// What a worker does until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Behavior {
    Idle,
    /// Computes on the thread of its runtime.
    Compute,
    /// Sleeps on the thread of its runtime.
    Sleep,
    /// Blocks in a system call that never returns.
    Read,
    /// Reads the endless pipe of a worker that it has started.
    Stream,
    /// Starts workers and drops them in a loop.
    Spawn,
    /// Accepts connections of other processes.
    Listen,
    /// Idles, and its `on_shutdown` does not return.
    PendingOnShutdown,
}

#[rpc_parallel::worker]
trait Nodes {
    /// Spawns a chain of workers, each by the one before it.
    async fn spawn_chain(&self, generations: u32) -> Result<(), AnyError>;
    /// Begins a behavior in the workers below, and then in this one.
    #[worker(one_way)]
    async fn begin(&self, behavior: Behavior);
    /// Returns the number of workers from this one down.
    async fn count(&self) -> Result<u32, AnyError>;
    fn endless_numbers(&self) -> Pipe<u64>;
    /// Connects to another worker, which then counts as one below.
    async fn connect_to(&self, other: Worker<Node>) -> Result<(), AnyError>;
}

/// What the `init` of a worker does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Init {
    Return,
    Wait,
    Compute,
    Read,
}

#[derive(Default)]
struct Node {
    below: Mutex<Vec<NodesClient>>,
    pending_on_shutdown: AtomicBool,
}

impl Node {
    fn below(&self) -> Vec<NodesClient> {
        self.below.lock().expect("no thread panics with the lock").clone()
    }

    fn add_below(&self, client: NodesClient) {
        self.below.lock().expect("no thread panics with the lock").push(client);
    }
}

impl WorkerState for Node {
    type Init = Init;

    async fn init(init: Init) -> Result<Self, BoxError> {
        print_line(&format!("worker {}", std::process::id()));
        match init {
            Init::Return => {}
            Init::Wait => std::future::pending().await,
            Init::Compute => compute(),
            Init::Read => read(),
        }
        Ok(Self::default())
    }

    async fn on_shutdown(&self) {
        if self.pending_on_shutdown.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

fn compute() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Blocks in a system call forever: this function itself holds the writer.
fn read() -> ! {
    let (mut reader, _writer) = io::pipe().expect("make a pipe");
    let read = reader.read(&mut [0]);
    panic!("an empty pipe was read: {read:?}");
}

async fn spawn_and_drop() -> ! {
    loop {
        // The spawn fails when this process is ending.
        drop(Node::spawn(Init::Return).await);
    }
}

#[rpc_parallel::worker]
impl Nodes for Node {
    async fn spawn_chain(&self, generations: u32) -> Result<(), AnyError> {
        if generations > 0 {
            let next = node(generations).spawn(Init::Return).await?;
            next.spawn_chain(generations - 1).await?;
            self.add_below(next);
        }
        Ok(())
    }

    async fn begin(&self, behavior: Behavior) {
        for below in self.below() {
            below.begin(behavior).await.expect("the worker below runs");
        }
        let pending = behavior == Behavior::PendingOnShutdown;
        self.pending_on_shutdown.store(pending, Ordering::Relaxed);
        print_line(&format!("busy {}", std::process::id()));
        match behavior {
            Behavior::Idle | Behavior::Listen | Behavior::PendingOnShutdown => {}
            Behavior::Compute => compute(),
            Behavior::Sleep => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
            Behavior::Read => read(),
            Behavior::Stream => {
                let worker = Node::spawn(Init::Return).await.expect("start a worker");
                let mut numbers = worker.endless_numbers().await.expect("call `endless_numbers`");
                while let Some(number) = numbers.next().await {
                    number.expect("the pipe is endless");
                }
            }
            Behavior::Spawn => spawn_and_drop().await,
        }
    }

    async fn count(&self) -> Result<u32, AnyError> {
        let mut count = 1;
        for below in self.below() {
            count += below.count().await?;
        }
        Ok(count)
    }

    fn endless_numbers(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn connect_to(&self, other: Worker<Node>) -> Result<(), AnyError> {
        let other = other.connect(()).await?;
        other.spawn_chain(0).await?;
        self.add_below(other);
        Ok(())
    }
}

/// Returns a spawner whose name holds the number of generations from the worker down.
fn node(generations: u32) -> Spawner<Node> {
    Node::spawner().name(format!("node-{generations}"))
}

/// The clients and handles that the master holds until it ends.
#[derive(Default)]
struct Held {
    clients: Vec<NodesClient>,
    workers: Vec<Worker<Node>>,
}

async fn begin(mode: &str, generations: u32) -> anyhow::Result<Held> {
    let mut held = Held::default();
    let behavior = match mode {
        "idle" | "started" => Behavior::Idle,
        "computing" => Behavior::Compute,
        "sleeping" => Behavior::Sleep,
        "reading" => Behavior::Read,
        "streaming" => Behavior::Stream,
        "spawning" => Behavior::Spawn,
        "pending-on-shutdown" => Behavior::PendingOnShutdown,
        "listening" | "serving" => Behavior::Listen,
        "waiting-in-init" => return Ok(never_ready(generations, Init::Wait, held)),
        "computing-in-init" => return Ok(never_ready(generations, Init::Compute, held)),
        "reading-in-init" => return Ok(never_ready(generations, Init::Read, held)),
        "detached-in-init" => {
            for _ in 0..generations {
                tokio::spawn(async {
                    panic!("{:?}", Node::spawner().start_detached(Init::Read).await)
                });
            }
            return Ok(held);
        }
        _ => anyhow::bail!("unknown behavior `{mode}`"),
    };
    if mode == "started" || mode == "listening" {
        for _ in 0..generations {
            let worker = Node::spawner().start(Init::Return).await?;
            let client = worker.connect(()).await?;
            if mode == "listening" {
                for other in &held.workers {
                    client.connect_to(other.clone()).await?;
                }
            }
            // `begin` would also reach the workers that this one has connected to.
            print_line(&format!("busy {}", client.label().pid().unwrap_or_default()));
            held.workers.push(worker);
            held.clients.push(client);
        }
        return Ok(held);
    }
    let first = node(generations).spawn(Init::Return).await?;
    first.spawn_chain(generations - 1).await?;
    if mode == "serving" {
        first.connect_to(Node::serve(Init::Return).await?).await?;
    }
    first.begin(behavior).await?;
    if mode == "spawning" {
        tokio::spawn(spawn_and_drop());
        tokio::spawn(spawn_and_drop());
    }
    held.clients.push(first);
    Ok(held)
}

/// Begins to start workers that never become ready.
fn never_ready(count: u32, init: Init, held: Held) -> Held {
    for _ in 0..count {
        tokio::spawn(async move {
            let spawned = Node::spawn(init).await;
            panic!("{spawned:?}");
        });
    }
    held
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode, generations] = &args[..] else {
        anyhow::bail!("usage: left_behind BEHAVIOR GENERATIONS")
    };
    let held = begin(mode, generations.parse()?).await?;
    print_line("ready");

    loop {
        let command = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
        match command.transpose()?.as_deref() {
            Some("return") | None => return Ok(()),
            Some("panic") => panic!("panic by command"),
            Some("exit") => std::process::exit(3),
            Some("abort") => std::process::abort(),
            Some("count") => {
                let mut count = 0;
                for client in &held.clients {
                    count += client.count().await?;
                }
                print_line(&format!("count {count}"));
            }
            Some(other) => anyhow::bail!("unknown command `{other}`"),
        }
    }
}
