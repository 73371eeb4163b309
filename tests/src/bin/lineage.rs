//! A master with workers, each of which prints its process id when it begins: `lineage WHAT COUNT`.
//! It returns when it reads `return` on stdin.

use std::io::{self, Write};
use std::sync::Mutex;

use rpc_parallel::Spawner;
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// What a worker does when its master ends.
#[rpc_parallel::worker]
trait Descendant {
    /// Spawns a worker that spawns a worker, so many times.
    async fn beget(&self, generations: u32) -> Result<(), AnyError>;
    async fn meet(&self, other: Worker<Child>) -> Result<(), AnyError>;
    async fn greet(&self);
    fn tell(&self, lines: u32);
}

/// How its `init` goes.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Childhood {
    Short,
    BlocksForEver,
}

#[derive(Default)]
struct Child(Mutex<Vec<DescendantClient>>);

impl WorkerState for Child {
    type Init = Childhood;

    async fn init(childhood: Childhood) -> Result<Self, BoxError> {
        say(&format!("worker {}", std::process::id()))?;
        match childhood {
            Childhood::Short => Ok(Self::default()),
            Childhood::BlocksForEver => loop {
                std::hint::spin_loop();
            },
        }
    }
}

#[rpc_parallel::worker]
impl Descendant for Child {
    async fn beget(&self, generations: u32) -> Result<(), AnyError> {
        if let Some(generations) = generations.checked_sub(1) {
            let child = Child::spawner().name(format!("with {generations} to come"));
            let child = child.spawn(Childhood::Short).await?;
            child.beget(generations).await?;
            self.0.lock().expect("nobody panics in here").push(child);
        }
        Ok(())
    }

    async fn meet(&self, other: Worker<Child>) -> Result<(), AnyError> {
        let other = other.connect(()).await?;
        other.greet().await?;
        self.0.lock().expect("nobody panics in here").push(other);
        Ok(())
    }

    async fn greet(&self) {}

    fn tell(&self, lines: u32) {
        for line in 1..=lines {
            println!("line {line} to stdout");
            eprintln!("line {line} to stderr");
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    // In one piece: several processes write to the same pipe.
    io::stdout().write_all(format!("{line}\n").as_bytes())
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, what, count] = &args[..] else { anyhow::bail!("lineage WHAT COUNT") };
    let count = count.parse()?;
    let mut clients = Vec::new();
    let mut workers = Vec::new();
    match what.as_str() {
        "idle" => {
            for _ in 0..count {
                clients.push(Child::spawner().name("idler").spawn(Childhood::Short).await?);
            }
        }
        "wrapped" => {
            for _ in 0..count {
                clients.push(wrapped().spawn(Childhood::Short).await?);
            }
        }
        "wrapped-and-blocked-in-init" => begin(count, wrapped(), Childhood::BlocksForEver),
        "generations" => {
            let child = Child::spawn(Childhood::Short).await?;
            child.beget(count - 1).await?;
            clients.push(child);
        }
        "telling" => {
            let child = Child::spawn(Childhood::Short).await?;
            child.tell(count).await?;
        }
        "serving" => {
            let served = Child::serve(Childhood::Short).await?;
            for _ in 1..count {
                let child = Child::spawn(Childhood::Short).await?;
                child.meet(served.clone()).await?;
                clients.push(child);
            }
        }
        "listening" => {
            for _ in 0..count {
                let worker = Child::spawner().start(Childhood::Short).await?;
                let client = worker.connect(()).await?;
                for other in &workers {
                    client.meet(Worker::clone(other)).await?;
                }
                workers.push(worker);
                clients.push(client);
            }
        }
        _ => anyhow::bail!("what is `{what}`?"),
    }
    say("ready")?;

    let told = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
    match told.transpose()?.as_deref() {
        Some("return") | None => Ok(()),
        Some(other) => anyhow::bail!("what is `{other}`?"),
    }
}

/// Has a shell between the master and its workers.
fn wrapped() -> Spawner<Child> {
    let shell = WrapperLauncher::new("/bin/sh").args(["-c", r#""$@"; exit $?"#, "sh"]);
    Child::spawner().launcher(shell)
}

/// Begins to spawn workers that are never ready.
fn begin(count: u32, spawner: Spawner<Child>, childhood: Childhood) {
    for _ in 0..count {
        let spawner = spawner.clone();
        tokio::spawn(async move {
            let never = spawner.spawn(childhood).await;
            panic!("{never:?}");
        });
    }
}
