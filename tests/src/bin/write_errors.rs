//! Makes calls while a tracer injects write errors: `write_errors calls` or `restart`.
//!
//! `calls` prints how many calls were answered. With `restart` the worker is restarted; the program
//! prints the first error, and `again` when a later call succeeds.

use futures_util::future::join_all;
use rpc_parallel::RestartPolicy;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rpc_parallel_tests::script::Script;
use tokio::time::timeout;

async fn calls() -> anyhow::Result<()> {
    let fixture = Fixture::spawn(Script::default()).await?;
    for number in 0..50 {
        anyhow::ensure!(fixture.echo(number).await? == number, "wrong answer to {number}");
    }
    let answers = join_all((0..50).map(|it| fixture.echo(it))).await;
    for (number, answer) in (0..).zip(answers) {
        anyhow::ensure!(answer? == number, "wrong answer to {number}");
    }
    println!("100 answers");
    Ok(())
}

async fn restart() -> anyhow::Result<()> {
    let spawner = Fixture::spawner().restart(RestartPolicy::on_failure());
    let fixture = spawner.spawn(Script::default()).await?;
    let mut failed = false;
    for number in 0..100 {
        match fixture.echo(number).await {
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
    anyhow::bail!("no call succeeds after a failed one")
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let calling = async {
        match args.get(1).map(String::as_str) {
            Some("calls") => calls().await,
            Some("restart") => restart().await,
            _ => anyhow::bail!("usage: write_errors calls|restart"),
        }
    };
    // This process outlives a killed tracer, so it must end by itself.
    let done = timeout(TEST_TIMEOUT / 2, calling).await;
    // The test reads errors from stdout, in their order with the other lines.
    if let Err(error) = done.unwrap_or_else(|_| Err(anyhow::anyhow!("a call hangs"))) {
        println!("{}", format!("{error:#}").replace('\n', " "));
    }
    Ok(())
}
