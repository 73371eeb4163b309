//! A master that goes on when it is interrupted, and then asks its worker whether that lives:
//! `interrupted own-session`, `foreground` or `wrapped`.

use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use tokio::signal::unix::{SignalKind, signal};

#[rpc_parallel::worker]
trait Lives {
    fn live(&self);
}

#[derive(Default, WorkerState)]
struct Alive;

#[rpc_parallel::worker]
impl Lives for Alive {
    fn live(&self) {}
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let spawner = match args.get(1).map(String::as_str) {
        Some("own-session") => Alive::spawner(),
        Some("foreground") => Alive::spawner().foreground(),
        // The shell stays between master and worker, and gives up when it is interrupted.
        Some("wrapped") => {
            let script = r#"trap "exit 9" INT; exec 3<&0; "$@" <&3 3<&- & wait $!; exit $?"#;
            let shell = WrapperLauncher::new("/bin/sh").args(["-c", script, "sh"]);
            Alive::spawner().launcher(shell)
        }
        what => anyhow::bail!("what is {what:?}?"),
    };
    let alive = spawner.spawn(()).await?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    println!("ready");

    interrupts.recv().await;

    match alive.live().await {
        Ok(()) => println!("the worker lives"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
