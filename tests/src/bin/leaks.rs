//! Starts workers over and over, `leaks WHAT COUNT`, and prints how many descriptors, threads and
//! children it had before and after. It fails where its memory has grown.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use rpc_parallel::launch::{ResourceLimit, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, children, descriptors_and_threads, memory};

#[rpc_parallel::worker]
trait Short {
    fn double(&self, number: u32) -> u32;
    fn break_down(&self);
}

struct Life;

impl WorkerState for Life {
    type Init = String;

    async fn init(how: String) -> Result<Self, BoxError> {
        match how.as_str() {
            "fail" => return Err("as it was told".into()),
            "panic" => panic!("as it was told"),
            "exit" => std::process::exit(3),
            "wait" => std::future::pending().await,
            "print" => eprintln!("as it was told"),
            _ => {}
        }
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Short for Life {
    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn break_down(&self) {
        tokio::spawn(async { panic!("as it was told") });
    }
}

async fn live(what: &str, number: u32) -> anyhow::Result<()> {
    let spawner = Life::spawner();
    match what {
        "spawn" => {
            let shown = spawner.stdout(Redirect::prefixed()).stderr(Redirect::prefixed());
            let client = shown.spawn(String::new()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
        }
        "start" => {
            let worker = spawner.start(String::new()).await?;
            // So that it listens.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            client.close_server().await?;
        }
        "serve" => {
            let worker = Life::serve(String::new()).await?;
            // So that it listens.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            client.close_server().await?;
        }
        "serve apart" => {
            let server = Life::server().on_failure(|_| ());
            let worker = server.clone().serve(String::new()).await?;
            // So that it listens.
            serde_json::to_string(&worker)?;
            let client = worker.connect(()).await?;
            anyhow::ensure!(client.double(number).await? == 2 * number);
            match number % 2 {
                0 => client.close_server().await?,
                // Its answer may be lost.
                _ => drop(client.break_down().await),
            }
            anyhow::ensure!(server.serve("fail".into()).await.is_err());
        }
        "failing" => {
            for how in ["fail", "panic", "exit"] {
                anyhow::ensure!(Life::spawn(how.into()).await.is_err());
                anyhow::ensure!(Life::spawner().start(how.into()).await.is_err());
            }
            anyhow::ensure!(Life::serve("fail".into()).await.is_err());
            let lost = spawner.clone().current_dir("/there/is/no/such/directory");
            anyhow::ensure!(lost.spawn(String::new()).await.is_err());
            let unlimited = spawner.clone().limit(ResourceLimit::open_files(2).hard(1));
            anyhow::ensure!(unlimited.spawn(String::new()).await.is_err());
            let unlaunched = spawner.clone().launcher(WrapperLauncher::new("/no/such/program"));
            anyhow::ensure!(unlaunched.spawn(String::new()).await.is_err());
            let shown = spawner.clone().stdout(Redirect::prefixed());
            let endless = shown.init_timeout(Duration::from_millis(50));
            anyhow::ensure!(endless.spawn("wait".into()).await.is_err());
            let late = spawner.spawn_timeout(Duration::from_millis(50));
            anyhow::ensure!(late.spawn("wait".into()).await.is_err());
        }
        "dropped" => {
            // Polled more and more often before it is dropped.
            let mut spawning = pin!(spawner.spawn("wait".into()));
            for _ in 0..number % 10 {
                let polled = poll_fn(|cx| Poll::Ready(spawning.as_mut().poll(cx))).await;
                anyhow::ensure!(polled.is_pending());
                tokio::task::yield_now().await;
            }
        }
        _ => anyhow::bail!("what is `{what}`?"),
    }
    Ok(())
}

type Counts = (usize, usize, usize);

fn count() -> anyhow::Result<Counts> {
    let (descriptors, threads) = descriptors_and_threads()?;
    Ok((descriptors, threads, children()?.len()))
}

/// Longer than what is left of a worker stays.
const QUIET: Duration = Duration::from_millis(1500);

/// Waits until the counts are those that are wanted, or, if none are, until they no longer change:
/// what a worker leaves goes a moment after it.
async fn settle(wanted: Option<Counts>) -> anyhow::Result<Counts> {
    let began = Instant::now();
    let mut last = (count()?, began);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let counts = count()?;
        if counts != last.0 {
            last = (counts, Instant::now());
        }
        let settled = wanted.map_or(last.1.elapsed() > QUIET, |it| it == counts);
        if settled || began.elapsed() > PATIENCE / 2 {
            return Ok(counts);
        }
    }
}

/// Two hundred workers that live take twice as much.
const MOST_GROWN: usize = 256 * 1024;

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, what, count] = &args[..] else { anyhow::bail!("leaks WHAT COUNT") };
    // What stays for ever is there after the first few, and after the first line on stderr.
    drop(Life::spawn("print".into()).await?);
    for number in 0..10 {
        live(what, number).await?;
    }
    let (before, memory_before) = (settle(None).await?, memory()?);
    for number in 0..count.parse()? {
        live(what, number).await?;
    }
    println!("{before:?}");
    println!("{:?}", settle(Some(before)).await?);
    let grown = memory()?.saturating_sub(memory_before);
    // Those that are dropped live at the same time, and what they took is kept for others.
    anyhow::ensure!(grown < MOST_GROWN || what == "dropped", "grown by {grown} bytes");
    Ok(())
}
