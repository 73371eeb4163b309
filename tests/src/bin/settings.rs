//! Prints the settings of all processes and servers of a program, a line each: `settings`.
//!
//! `settings shell SCRIPT` starts its workers by a shell script whose `$0` is the program.

use std::env;
use std::time::Duration;

use rpc_parallel::Settings;
use rpc_parallel::error::SettingsError;
use rpc_parallel::expert::{Master, worker_main};
use rpc_parallel::prelude::*;

/// Settings by the name of the process or server that has them.
type Named = Vec<(String, Settings)>;

#[rpc_parallel::worker]
trait Collects {
    /// Returns the settings of servers of this process, of workers that it starts, and of the servers
    /// and workers of those.
    async fn collect(&self, generations: u32) -> Result<Named, AnyError>;
    fn variable(&self) -> Option<String>;
}

#[derive(Default, WorkerState)]
struct Collector;

#[rpc_parallel::worker]
impl Collects for Collector {
    async fn collect(&self, generations: u32) -> Result<Named, AnyError> {
        collect(generations).await
    }

    fn variable(&self) -> Option<String> {
        env::var("RPC_PARALLEL_SETTINGS").ok()
    }
}

async fn collect(generations: u32) -> Result<Named, AnyError> {
    let served = Collector::serve(()).await?;
    let mut named = vec![("server".to_owned(), served.settings())];
    if generations > 0 {
        let worker = Collector::spawner().start(()).await?;
        add("worker", &worker, generations - 1, &mut named).await?;
    }
    Ok(named)
}

async fn add(
    name: &str,
    worker: &Worker<Collector>,
    generations: u32,
    named: &mut Named,
) -> Result<(), AnyError> {
    named.push((name.to_owned(), worker.settings()));
    let client = worker.connect(()).await?;
    let inside = client.collect(generations).await?;
    named.extend(inside.into_iter().map(|(inner, it)| (format!("{name}/{inner}"), it)));
    Ok(())
}

fn program_settings() -> Result<Settings, SettingsError> {
    let settings = Settings::default().with_max_message_size(1500);
    Ok(settings.with_handshake_timeout(Duration::from_secs(1)))
}

fn worker_settings() -> Result<Settings, SettingsError> {
    let settings = Settings::default().with_max_message_size(3000);
    Ok(settings.with_handshake_timeout(Duration::from_secs(3)))
}

async fn all() -> Result<Named, AnyError> {
    let mut named = collect(2).await?;
    let other = Collector::spawner().settings(worker_settings()?).start(()).await?;
    add("other worker", &other, 1, &mut named).await?;
    let other = Collector::server().settings(worker_settings()?).serve(()).await?;
    named.push(("other server".to_owned(), other.settings()));
    Ok(named)
}

fn main() -> Result<(), AnyError> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let master = Master::builder().settings(program_settings()?);
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
        let collector = Collector::spawn(()).await?;
        println!("{}", collector.variable().await?.unwrap_or_default());
        all().await?.iter().for_each(|(name, settings)| println!("{name}: {settings}"));
        Ok(())
    })
}
