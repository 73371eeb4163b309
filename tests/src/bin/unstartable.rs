//! A master whose workers run another program: `unstartable PROGRAM [ARGUMENT..]`. It prints why
//! the worker did not start, and how many children are left of it. What is limited is the time until
//! the process is a worker, or, where `LIMIT_ALL` is set, the time for everything.

use std::time::{Duration, Instant};

use rpc_parallel::expert::Master;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let program = args.next().unwrap_or_default();
    Master::builder().worker_program(program).worker_args(args).start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let began = Instant::now();
    let limit = Duration::from_millis(300);
    let spawner = match std::env::var_os("LIMIT_ALL").is_some() {
        true => Nobody::spawner().spawn_timeout(limit),
        false => Nobody::spawner().connect_timeout(limit),
    };
    let spawned = runtime.block_on(spawner.spawn(()));
    let took = began.elapsed();

    match spawned {
        Ok(_) => println!("started"),
        Err(error) => {
            let kind = format!("{:?}", error.kind());
            let kind = kind.split(|it: char| !it.is_alphanumeric()).next();
            println!("{}", kind.unwrap_or_default());
            println!("{:#}", anyhow::Error::from(error));
        }
    }
    println!("{} children after {} s", process::children()?.len(), took.as_secs());
    Ok(())
}
