//! Makes calls whose writes a tracer lets fail: `write_errors calls` or `restart`.
//!
//! `calls` prints how many calls were answered; with `restart` the worker is restarted, and it prints
//! the first error and `again` when a call succeeds after it.

use futures_util::future::join_all;
use rpc_parallel::RestartPolicy;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::PATIENCE;
use tokio::time::timeout;

#[rpc_parallel::worker]
trait Echoes {
    fn echo(&self, number: u64) -> u64;
}

#[derive(Default, WorkerState)]
struct Echo;

#[rpc_parallel::worker]
impl Echoes for Echo {
    fn echo(&self, number: u64) -> u64 {
        number
    }
}

async fn calls() -> anyhow::Result<()> {
    let echo = Echo::spawn(()).await?;
    for number in 0..50 {
        anyhow::ensure!(echo.echo(number).await? == number, "the answer is that of the call");
    }
    let answers = join_all((0..50).map(|it| echo.echo(it))).await;
    for (number, answer) in (0..).zip(answers) {
        anyhow::ensure!(answer? == number, "the answer is that of the call");
    }
    println!("100 answers");
    Ok(())
}

async fn restart() -> anyhow::Result<()> {
    let echo = Echo::spawner().restart(RestartPolicy::on_failure()).spawn(()).await?;
    let mut failed = false;
    for number in 0..100 {
        match echo.echo(number).await {
            Ok(_) if failed => {
                println!("again");
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if !failed => {
                println!("{}", error.to_string().replace('\n', " "));
                failed = true;
            }
            Err(_) => {}
        }
    }
    anyhow::bail!("no call fails and another succeeds after it")
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let calling = async {
        match args.get(1).map(String::as_str) {
            Some("calls") => calls().await,
            Some("restart") => restart().await,
            what => anyhow::bail!("what is {what:?}?"),
        }
    };
    // A tracer that is killed leaves this process behind, so it ends by itself.
    let done = timeout(PATIENCE / 2, calling).await;
    // On stdout, beside what was printed before.
    if let Err(error) = done.unwrap_or_else(|_| Err(anyhow::anyhow!("a call hangs"))) {
        println!("{}", format!("{error:#}").replace('\n', " "));
    }
    Ok(())
}
