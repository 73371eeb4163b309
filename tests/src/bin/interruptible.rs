//! A master for tests of signals: `interruptible handling` handles SIGINT and then returns from its
//! `main`; `interruptible default` does not handle it.
//!
//! Each worker prints `worker <pid>` in its `init` and `shut down <pid>` at the end of its
//! `on_shutdown`. The master prints `ready`, and `interrupted` when it has handled SIGINT.

use std::future::pending;
use std::process;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::print_line;

#[rpc_parallel::worker]
trait Waits {
    async fn wait(&self);
}

struct Printing;

impl WorkerState for Printing {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        print_line(&format!("worker {}", process::id()));
        Ok(Self)
    }

    async fn on_shutdown(&self) {
        // Long enough that a second signal would interrupt it.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        print_line(&format!("shut down {}", process::id()));
    }
}

#[rpc_parallel::worker]
impl Waits for Printing {
    async fn wait(&self) {
        pending::<()>().await;
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode] = &args[..] else { anyhow::bail!("usage: interruptible MODE") };
    let mut clients = vec![Printing::spawn(()).await?, Printing::spawn(()).await?];
    let started = Printing::spawner().start(()).await?;
    clients.push(started.connect(()).await?);
    for client in &clients {
        tokio::spawn(client.wait());
    }
    tokio::task::yield_now().await;
    match mode.as_str() {
        "handling" => {
            let interrupted = tokio::spawn(tokio::signal::ctrl_c());
            tokio::task::yield_now().await;
            print_line("ready");
            interrupted.await??;
            print_line("interrupted");
        }
        _ => {
            print_line("ready");
            pending::<()>().await;
        }
    }
    Ok(())
}
