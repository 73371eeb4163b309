//! Becomes what it should not become: `startup WHAT` prints what comes of it.
//!
//! Started by itself, as `startup worker HOW`, it does the same in the process of a worker, and
//! the worker tells.

use std::sync::OnceLock;

use rpc_parallel::error::StartupError;
use rpc_parallel::expert::{Initialized, Master, initialized, is_worker, worker_main};
use rpc_parallel::prelude::*;

/// What happened in this process before it was a worker.
static BEFORE: OnceLock<Vec<String>> = OnceLock::new();

#[rpc_parallel::worker]
trait Tells {
    fn before(&self) -> Vec<String>;
    fn now(&self) -> Vec<String>;
    fn arguments(&self) -> Vec<String>;
    /// Tells its process and what that is, and has a worker of its own tell the same, to this depth.
    async fn lineage(&self, depth: u32) -> Result<Vec<String>, AnyError>;
}

#[derive(Default, WorkerState)]
struct Teller;

#[rpc_parallel::worker]
impl Tells for Teller {
    fn before(&self) -> Vec<String> {
        BEFORE.get().cloned().unwrap_or_default()
    }

    fn now(&self) -> Vec<String> {
        vec![roles(), tell(Master::builder().start()), tell(worker_main())]
    }

    fn arguments(&self) -> Vec<String> {
        std::env::args().skip(1).collect()
    }

    async fn lineage(&self, depth: u32) -> Result<Vec<String>, AnyError> {
        let mut told = vec![format!("{}: {}", std::process::id(), roles())];
        if depth > 0 {
            told.extend(Teller::spawn(()).await?.lineage(depth - 1).await?);
        }
        Ok(told)
    }
}

fn tell<T>(result: Result<T, StartupError>) -> String {
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
            let before = [roles(), tell(Master::builder().start()), tell(inside)];
            BEFORE.get_or_init(|| before.into());
            worker_main()?;
        }
        ["worker", "twice"] => {
            // A worker that has ended does not come back here.
            worker_main()?;
            println!("came back");
        }
        ["in-a-worker"] => {
            Master::builder().worker_args(["worker"]).start()?;
            runtime()?.block_on(async {
                let teller = Teller::spawn(()).await?;
                teller.before().await?.iter().for_each(|it| println!("{it}"));
                teller.now().await?.iter().for_each(|it| println!("{it}"));
                anyhow::Ok(())
            })?;
        }
        ["in-a-master"] => {
            println!("{}", roles());
            println!("{}", tell(Master::builder().worker_args(["worker"]).start()));
            println!("{}", roles());
            println!("{}", tell(Master::builder().worker_args(["worker"]).start()));
            println!("{}", tell(worker_main()));
        }
        ["in-nothing"] => {
            println!("{}", tell(worker_main()));
            println!("{}", tell(runtime()?.block_on(async { worker_main() })));
            let spawned = runtime()?.block_on(async { Teller::spawn(()).await.map(drop) });
            println!("{}", spawned.map_or_else(|it| it.to_string(), |()| "started".to_owned()));
            println!("{}", roles());
        }
        ["with-a-name"] => {
            Master::builder().worker_args(["worker"]).start()?;
            let told = runtime()?.block_on(async {
                let teller = Teller::spawner().name("teller").spawn(()).await?;
                Ok::<_, anyhow::Error>((teller.arguments().await?, teller.label().to_string()))
            })?;
            println!("{told:?}");
        }
        ["of-workers"] => {
            Master::builder().worker_args(["worker"]).start()?;
            runtime()?.block_on(async {
                let told = Teller::spawn(()).await?.lineage(2).await?;
                told.iter().for_each(|it| println!("{it}"));
                anyhow::Ok(())
            })?;
        }
        ["not-returning"] => {
            Master::builder().worker_args(["worker", "twice"]).start()?;
            let told = runtime()?.block_on(async {
                let teller = Teller::spawn(()).await?;
                Ok::<_, anyhow::Error>(teller.before().await?)
            })?;
            println!("{told:?}");
        }
        _ => anyhow::bail!("what is {args:?}?"),
    }
    Ok(())
}
