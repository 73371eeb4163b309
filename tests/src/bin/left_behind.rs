//! A master with generations of workers that are all busy when it ends:
//! `left_behind WHAT GENERATIONS`, and then `return`, `panic`, `exit` or `abort` on stdin.
//!
//! Each worker prints `worker` and its process id when it begins, and then `busy` and its process
//! id when it does what it was told; the master prints `ready` after all of them. Told to `count`,
//! it prints how many generations answer.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rpc_parallel::Spawner;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::say;
use serde::{Deserialize, Serialize};

/// What a worker does until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum What {
    Idle,
    /// Computes, on the thread of its runtime.
    Compute,
    Sleep,
    /// Waits in a system call for what never comes.
    Read,
    /// Reads the endless pipe of another worker of its own.
    Stream,
    /// Starts workers and drops them, as fast as it can.
    Spawn,
    /// Takes connections from other processes.
    Listen,
    /// Does nothing, and is never done with what it does before its end.
    Linger,
}

#[rpc_parallel::worker]
trait Heirs {
    /// Spawns a worker that spawns a worker, so many times.
    async fn beget(&self, generations: u32) -> Result<(), AnyError>;
    /// Has the last generation do this, and then the one before, for ever.
    #[worker(one_way)]
    async fn begin(&self, what: What);
    /// Returns how many generations there are, itself and those below.
    async fn count(&self) -> Result<u32, AnyError>;
    fn count_up(&self) -> Pipe<u64>;
    async fn meet(&self, other: Worker<Heir>) -> Result<(), AnyError>;
}

/// How its `init` goes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Youth {
    Short,
    Wait,
    Compute,
    Read,
}

#[derive(Default)]
struct Heir {
    next: Mutex<Vec<HeirsClient>>,
    lingers: AtomicBool,
}

impl WorkerState for Heir {
    type Init = Youth;

    async fn init(youth: Youth) -> Result<Self, BoxError> {
        say(&format!("worker {}", std::process::id()));
        match youth {
            Youth::Short => {}
            Youth::Wait => std::future::pending().await,
            Youth::Compute => compute(),
            Youth::Read => read(),
        }
        Ok(Self::default())
    }

    async fn on_shutdown(&self) {
        if self.lingers.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

fn compute() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Waits in a system call for ever: this process itself holds the other end.
fn read() -> ! {
    let (mut reader, _writer) = io::pipe().expect("make a pipe");
    let read = reader.read(&mut [0]);
    panic!("nobody writes: {read:?}");
}

async fn spawn_and_drop() -> ! {
    loop {
        // It fails where this process is ending.
        drop(Heir::spawn(Youth::Short).await);
    }
}

#[rpc_parallel::worker]
impl Heirs for Heir {
    async fn beget(&self, generations: u32) -> Result<(), AnyError> {
        if generations > 0 {
            let next = heir(generations).spawn(Youth::Short).await?;
            next.beget(generations - 1).await?;
            self.next.lock().expect("nobody panics in here").push(next);
        }
        Ok(())
    }

    async fn begin(&self, what: What) {
        let next: Vec<_> = self.next.lock().expect("nobody panics in here").clone();
        for next in &next {
            next.begin(what).await.expect("it lives");
        }
        self.lingers.store(what == What::Linger, Ordering::Relaxed);
        say(&format!("busy {}", std::process::id()));
        match what {
            What::Idle | What::Listen | What::Linger => {}
            What::Compute => compute(),
            What::Sleep => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
            What::Read => read(),
            What::Stream => {
                let worker = Heir::spawn(Youth::Short).await.expect("start a worker");
                let mut numbers = worker.count_up().await.expect("call it");
                while let Some(number) = numbers.next().await {
                    number.expect("it goes on for ever");
                }
            }
            What::Spawn => spawn_and_drop().await,
        }
    }

    async fn count(&self) -> Result<u32, AnyError> {
        let next: Vec<_> = self.next.lock().expect("nobody panics in here").clone();
        let mut count = 1;
        for next in &next {
            count += next.count().await?;
        }
        Ok(count)
    }

    fn count_up(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn meet(&self, other: Worker<Heir>) -> Result<(), AnyError> {
        let other = other.connect(()).await?;
        other.beget(0).await?;
        self.next.lock().expect("nobody panics in here").push(other);
        Ok(())
    }
}

/// Names a worker after the generations from it on.
fn heir(generations: u32) -> Spawner<Heir> {
    Heir::spawner().name(format!("heir-{generations}"))
}

/// What the master holds until it ends.
#[derive(Default)]
struct Held {
    clients: Vec<HeirsClient>,
    workers: Vec<Worker<Heir>>,
}

async fn begin(what: &str, generations: u32) -> anyhow::Result<Held> {
    let mut held = Held::default();
    let busy = match what {
        "idle" | "started" => What::Idle,
        "computing" => What::Compute,
        "sleeping" => What::Sleep,
        "reading" => What::Read,
        "streaming" => What::Stream,
        "spawning" => What::Spawn,
        "lingering" => What::Linger,
        "listening" | "serving" => What::Listen,
        "waiting-in-init" => return Ok(never(generations, Youth::Wait, held)),
        "computing-in-init" => return Ok(never(generations, Youth::Compute, held)),
        "reading-in-init" => return Ok(never(generations, Youth::Read, held)),
        "detached-in-init" => {
            for _ in 0..generations {
                tokio::spawn(async {
                    panic!("{:?}", Heir::spawner().start_detached(Youth::Read).await)
                });
            }
            return Ok(held);
        }
        _ => anyhow::bail!("what is `{what}`?"),
    };
    if what == "started" || what == "listening" {
        for _ in 0..generations {
            let worker = Heir::spawner().start(Youth::Short).await?;
            let client = worker.connect(()).await?;
            if what == "listening" {
                for other in &held.workers {
                    client.meet(other.clone()).await?;
                }
            }
            // Those who have met others would make them busy as well.
            say(&format!("busy {}", client.label().pid().unwrap_or_default()));
            held.workers.push(worker);
            held.clients.push(client);
        }
        return Ok(held);
    }
    let first = heir(generations).spawn(Youth::Short).await?;
    first.beget(generations - 1).await?;
    if what == "serving" {
        first.meet(Heir::serve(Youth::Short).await?).await?;
    }
    first.begin(busy).await?;
    if what == "spawning" {
        tokio::spawn(spawn_and_drop());
        tokio::spawn(spawn_and_drop());
    }
    held.clients.push(first);
    Ok(held)
}

/// Begins to start workers that are never ready.
fn never(count: u32, youth: Youth, held: Held) -> Held {
    for _ in 0..count {
        tokio::spawn(async move {
            let never = Heir::spawn(youth).await;
            panic!("{never:?}");
        });
    }
    held
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, what, generations] = &args[..] else { anyhow::bail!("left_behind WHAT GENERATIONS") };
    let held = begin(what, generations.parse()?).await?;
    say("ready");

    loop {
        let told = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
        match told.transpose()?.as_deref() {
            Some("return") | None => return Ok(()),
            Some("panic") => panic!("as it was told"),
            Some("exit") => std::process::exit(3),
            Some("abort") => std::process::abort(),
            Some("count") => {
                let mut count = 0;
                for client in &held.clients {
                    count += client.count().await?;
                }
                say(&format!("count {count}"));
            }
            Some(other) => anyhow::bail!("what is `{other}`?"),
        }
    }
}
