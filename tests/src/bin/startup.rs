//! Tries to become a master or a worker in wrong states, and prints the results: `startup MODE`.
//!
//! It starts itself as `startup worker [twice]`. That process tries the same, and its worker returns
//! the results.

use std::sync::OnceLock;

use rpc_parallel::error::StartupError;
use rpc_parallel::expert::{Initialized, Master, initialized, is_worker, worker_main};
use rpc_parallel::prelude::*;

/// The results in this process before it became a worker.
static RESULTS_BEFORE: OnceLock<Vec<String>> = OnceLock::new();

#[rpc_parallel::worker]
trait Reports {
    fn results_before(&self) -> Vec<String>;
    fn results_now(&self) -> Vec<String>;
    fn arguments(&self) -> Vec<String>;
    /// Returns the process id and roles of this worker and of a chain of workers below it.
    async fn lineage(&self, depth: u32) -> Result<Vec<String>, AnyError>;
}

#[derive(Default, WorkerState)]
struct Reporter;

#[rpc_parallel::worker]
impl Reports for Reporter {
    fn results_before(&self) -> Vec<String> {
        RESULTS_BEFORE.get().cloned().unwrap_or_default()
    }

    fn results_now(&self) -> Vec<String> {
        vec![roles(), describe(Master::builder().start()), describe(worker_main())]
    }

    fn arguments(&self) -> Vec<String> {
        std::env::args().skip(1).collect()
    }

    async fn lineage(&self, depth: u32) -> Result<Vec<String>, AnyError> {
        let mut lines = vec![format!("{}: {}", std::process::id(), roles())];
        if depth > 0 {
            lines.extend(Reporter::spawn(()).await?.lineage(depth - 1).await?);
        }
        Ok(lines)
    }
}

fn describe<T>(result: Result<T, StartupError>) -> String {
    result.map_or_else(|it| format!("{it:?}: {it}"), |_| "done".to_owned())
}

fn roles() -> String {
    format!(
        "is_worker {}, initialized {:?}",
        is_worker(),
        initialized().map(Initialized::is_worker)
    )
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["worker"] => {
            let inside = runtime()?.block_on(async { worker_main() });
            let before = [roles(), describe(Master::builder().start()), describe(inside)];
            RESULTS_BEFORE.get_or_init(|| before.into());
            worker_main()?;
        }
        ["worker", "twice"] => {
            // `worker_main` exits the process at the end of the worker.
            worker_main()?;
            println!("returned");
        }
        ["in-a-worker"] => {
            Master::builder().worker_args(["worker"]).start()?;
            runtime()?.block_on(async {
                let reporter = Reporter::spawn(()).await?;
                reporter.results_before().await?.iter().for_each(|it| println!("{it}"));
                reporter.results_now().await?.iter().for_each(|it| println!("{it}"));
                anyhow::Ok(())
            })?;
        }
        ["in-a-master"] => {
            println!("{}", roles());
            println!("{}", describe(Master::builder().worker_args(["worker"]).start()));
            println!("{}", roles());
            println!("{}", describe(Master::builder().worker_args(["worker"]).start()));
            println!("{}", describe(worker_main()));
        }
        ["in-nothing"] => {
            println!("{}", describe(worker_main()));
            println!("{}", describe(runtime()?.block_on(async { worker_main() })));
            let spawned = runtime()?.block_on(async { Reporter::spawn(()).await.map(drop) });
            println!("{}", spawned.map_or_else(|it| it.to_string(), |()| "started".to_owned()));
            println!("{}", roles());
        }
        ["with-a-name"] => {
            Master::builder().worker_args(["worker"]).start()?;
            let output = runtime()?.block_on(async {
                let reporter = Reporter::spawner().name("reporter").spawn(()).await?;
                Ok::<_, anyhow::Error>((reporter.arguments().await?, reporter.label().to_string()))
            })?;
            println!("{output:?}");
        }
        ["of-workers"] => {
            Master::builder().worker_args(["worker"]).start()?;
            runtime()?.block_on(async {
                let output = Reporter::spawn(()).await?.lineage(2).await?;
                output.iter().for_each(|it| println!("{it}"));
                anyhow::Ok(())
            })?;
        }
        ["not-returning"] => {
            Master::builder().worker_args(["worker", "twice"]).start()?;
            let output = runtime()?.block_on(async {
                let reporter = Reporter::spawn(()).await?;
                Ok::<_, anyhow::Error>(reporter.results_before().await?)
            })?;
            println!("{output:?}");
        }
        _ => anyhow::bail!("unknown mode {args:?}"),
    }
    Ok(())
}
