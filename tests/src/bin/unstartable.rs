//! A master whose workers run another program: `unstartable PROGRAM [ARGUMENT..]`.
//!
//! It prints the kind and the text of the spawn error, and how many children are left. The
//! `connect_timeout` is 300 ms; with the environment variable `LIMIT_ALL` the `spawn_timeout` is.

use std::time::{Duration, Instant};

use rpc_parallel::expert::Master;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::process;
use rpc_parallel_tests::script::Script;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let program = args.next().unwrap_or_default();
    Master::builder().worker_program(program).worker_args(args).start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let began = Instant::now();
    let timeout = Duration::from_millis(300);
    let spawner = match std::env::var_os("LIMIT_ALL").is_some() {
        true => Fixture::spawner().spawn_timeout(timeout),
        false => Fixture::spawner().connect_timeout(timeout),
    };
    let spawned = runtime.block_on(spawner.spawn(Script::default()));
    let took = began.elapsed();

    match spawned {
        Ok(_) => println!("started"),
        Err(error) => {
            let kind = format!("{:?}", error.kind());
            let kind = kind.split(|it: char| !it.is_alphanumeric()).next();
            println!("{}", kind.unwrap_or_default());
            println!("{error}");
        }
    }
    println!("{} children after {} s", process::children()?.len(), took.as_secs());
    Ok(())
}
