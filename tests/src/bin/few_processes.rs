//! Starts workers until its user may have no more processes and threads: `few_processes LIMIT`.
//!
//! Prints why there are no more, how many of its workers still answer, or say that they could not
//! begin for the same reason, and whether there can be another one once it has fewer.

use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::ends;
use rustix::process::{Resource, Rlimit, setrlimit};

#[rpc_parallel::worker]
trait Patient {
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Idler;

#[rpc_parallel::worker]
impl Patient for Idler {
    fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let limit = args.get(1).map(|it| it.parse()).transpose()?;
    let mut workers = vec![Idler::spawn(()).await?];
    // `ends` waits on a blocking thread of the runtime, which must be there before the limit is.
    tokio::task::spawn_blocking(|| ()).await?;
    setrlimit(Resource::Nproc, Rlimit { current: limit, maximum: limit })?;
    let refused = loop {
        match Idler::spawn(()).await {
            Ok(worker) => workers.push(worker),
            Err(error) => break error,
        }
    };
    println!("{}", format!("{:#}", anyhow::Error::from(refused)).replace('\n', " "));

    let (mut answers, count) = (0, workers.len());
    let mut alive = Vec::new();
    for worker in workers {
        match worker.pid().await {
            Ok(_) => alive.push(worker),
            // The last one may have begun when there was nothing left for its threads.
            Err(error) if error.to_string().contains("(os error 11)") => {}
            Err(error) => return Err(error.into()),
        }
        answers += 1;
    }
    println!("{answers} of {count}");

    for worker in alive.split_off(alive.len() / 2) {
        let pid = worker.pid().await?;
        drop(worker);
        anyhow::ensure!(ends(pid).await, "nobody holds it any more");
    }
    Idler::spawn(()).await?.pid().await?;
    println!("again");
    Ok(())
}
