//! An async `main` with arguments, runtimes and settings that returns an error if one argument is
//! `fail`: `async_main [ARGUMENT..]`.

use rpc_parallel::Settings;
use rpc_parallel::prelude::*;
use tokio::runtime::Handle;

#[rpc_parallel::worker]
trait Runs {
    fn runtime(&self) -> String;
    /// Computes until `stop` is called, which needs a second thread.
    async fn compute(&self);
    async fn stop(&self);
    fn length(&self, bytes: &[u8]) -> usize;
}

#[derive(Default, WorkerState)]
struct Runner(std::sync::atomic::AtomicBool);

#[rpc_parallel::worker]
impl Runs for Runner {
    fn runtime(&self) -> String {
        runtime()
    }

    async fn compute(&self) {
        while !self.0.load(std::sync::atomic::Ordering::Acquire) {
            std::hint::spin_loop();
        }
    }

    async fn stop(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }

    fn length(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

fn runtime() -> String {
    let handle = Handle::current();
    format!("{:?} of {}", handle.runtime_flavor(), handle.metrics().num_workers())
}

/// The error of `main`.
#[derive(Debug, thiserror::Error)]
#[error("an argument is `fail`")]
struct Failure;

#[rpc_parallel::entry(
    flavor = "multi_thread",
    threads = 2,
    worker(flavor = "multi_thread", threads = 3),
    settings = Settings::default().with_max_message_size(5 * 1000)
)]
async fn main(args: Vec<String>) -> Result<(), anyhow::Error> {
    println!("main {:?}", &args[1..]);
    println!("master {}", runtime());

    let runner = Runner::spawn(()).await?;
    println!("worker {}", runner.runtime().await?);
    let computing = tokio::spawn(runner.compute());
    runner.stop().await?;
    computing.await??;
    println!("took {} bytes", runner.length(&[0; 4000]).await?);
    match runner.length(&[0; 6000]).await {
        Ok(taken) => println!("took {taken} bytes"),
        Err(error) => println!("{error}"),
    }
    if args.iter().any(|it| it == "fail") { Err(Failure.into()) } else { Ok(()) }
}
