//! Says which settings the parties of a program see, a line each: `settings`.
//!
//! `settings shell SCRIPT` starts its workers by a shell script, whose `$0` is the program.

use std::env;
use std::time::Duration;

use rpc_parallel::Settings;
use rpc_parallel::error::SettingsError;
use rpc_parallel::expert::{Master, worker_main};
use rpc_parallel::prelude::*;

/// Who sees which settings.
type Seen = Vec<(String, Settings)>;

#[rpc_parallel::worker]
trait Looks {
    /// Tells what holds for servers of this process, for workers that it starts, and what those
    /// tell in turn.
    async fn look(&self, generations: u32) -> Result<Seen, AnyError>;
    fn variable(&self) -> Option<String>;
}

#[derive(Default, WorkerState)]
struct Looker;

#[rpc_parallel::worker]
impl Looks for Looker {
    async fn look(&self, generations: u32) -> Result<Seen, AnyError> {
        look(generations).await
    }

    fn variable(&self) -> Option<String> {
        env::var("RPC_PARALLEL_SETTINGS").ok()
    }
}

async fn look(generations: u32) -> Result<Seen, AnyError> {
    let served = Looker::serve(()).await?;
    let mut seen = vec![("server".to_owned(), served.settings())];
    if generations > 0 {
        let worker = Looker::spawner().start(()).await?;
        see("worker", &worker, generations - 1, &mut seen).await?;
    }
    Ok(seen)
}

async fn see(
    name: &str,
    worker: &Worker<Looker>,
    generations: u32,
    seen: &mut Seen,
) -> Result<(), AnyError> {
    seen.push((name.to_owned(), worker.settings()));
    let client = worker.connect(()).await?;
    let inside = client.look(generations).await?;
    seen.extend(inside.into_iter().map(|(inner, it)| (format!("{name}/{inner}"), it)));
    Ok(())
}

fn of_the_program() -> Result<Settings, SettingsError> {
    let settings = Settings::default().with_max_message_size(1500);
    Ok(settings.with_handshake_timeout(Duration::from_secs(1)))
}

fn of_a_spawn() -> Result<Settings, SettingsError> {
    let settings = Settings::default().with_max_message_size(3000);
    Ok(settings.with_handshake_timeout(Duration::from_secs(3)))
}

async fn all() -> Result<Seen, AnyError> {
    let mut seen = look(2).await?;
    let other = Looker::spawner().settings(of_a_spawn()?).start(()).await?;
    see("other worker", &other, 1, &mut seen).await?;
    let other = Looker::server().settings(of_a_spawn()?).serve(()).await?;
    seen.push(("other server".to_owned(), other.settings()));
    Ok(seen)
}

fn main() -> Result<(), AnyError> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let master = Master::builder().settings(of_the_program()?);
    match args[..] {
        ["worker"] => {
            worker_main()?;
        }
        ["shell", script] => {
            let own = env::current_exe()?;
            let args = ["-c".into(), script.into(), own.into_os_string()];
            master.worker_program("/bin/sh").worker_args(args).start()?;
        }
        _ => {
            master.worker_args(["worker"]).start()?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let looker = Looker::spawn(()).await?;
        println!("{}", looker.variable().await?.unwrap_or_default());
        all().await?.iter().for_each(|(name, settings)| println!("{name}: {settings}"));
        Ok(())
    })
}
