//! A master that handles SIGINT and then calls its worker: `interrupted own-session`, `foreground`
//! or `wrapped`.
//!
//! It prints `ready`, and after the signal `the worker runs` or the error of the call.

use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;
use tokio::signal::unix::{SignalKind, signal};

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let spawner = match args.get(1).map(String::as_str) {
        Some("own-session") => Fixture::spawner(),
        Some("foreground") => Fixture::spawner().foreground(),
        // The shell is the worker's parent, and would exit at SIGINT.
        Some("wrapped") => {
            let script = r#"trap "exit 9" INT; exec 3<&0; "$@" <&3 3<&- & wait $!; exit $?"#;
            let shell = WrapperLauncher::new("/bin/sh").args(["-c", script, "sh"]);
            Fixture::spawner().launcher(shell)
        }
        _ => anyhow::bail!("usage: interrupted own-session|foreground|wrapped"),
    };
    let fixture = spawner.spawn(Script::default()).await?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    println!("ready");

    interrupts.recv().await;

    match fixture.pid().await {
        Ok(_) => println!("the worker runs"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
