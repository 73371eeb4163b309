//! A master with workers that take their leave: `leaving handling` returns from its `main` when
//! it is interrupted, `leaving dying` does not care and dies of the signal.
//!
//! Each worker prints `worker` and its process id when it begins, and `left` and its process id
//! when it has taken its leave; the master prints `ready`, and `interrupted` if it cares.

use std::future::pending;
use std::process;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::say;

#[rpc_parallel::worker]
trait Courtesy {
    async fn wait(&self);
}

struct Courtier;

impl WorkerState for Courtier {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        say(&format!("worker {}", process::id()));
        Ok(Self)
    }

    async fn on_shutdown(&self) {
        // So that a second signal would come in between.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        say(&format!("left {}", process::id()));
    }
}

#[rpc_parallel::worker]
impl Courtesy for Courtier {
    async fn wait(&self) {
        pending::<()>().await;
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, how] = &args[..] else { anyhow::bail!("leaving HOW") };
    let mut workers = vec![Courtier::spawn(()).await?, Courtier::spawn(()).await?];
    let started = Courtier::spawner().start(()).await?;
    workers.push(started.connect(()).await?);
    for worker in &workers {
        tokio::spawn(worker.wait());
    }
    tokio::task::yield_now().await;
    match how.as_str() {
        "handling" => {
            let interrupted = tokio::spawn(tokio::signal::ctrl_c());
            tokio::task::yield_now().await;
            say("ready");
            interrupted.await??;
            say("interrupted");
        }
        _ => {
            say("ready");
            pending::<()>().await;
        }
    }
    Ok(())
}
