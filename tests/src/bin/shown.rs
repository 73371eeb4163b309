//! A master without `#[entry]` that shows what its workers write, line by line: `shown WHAT HOW`. It
//! ends as soon as they have written it: by returning from `main`, or by `exit`.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::expert::Master;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::PATIENCE;
use rustix::io::ioctl_fionread;

#[rpc_parallel::worker]
trait Speaks {
    fn pid(&self) -> u32;
    /// Writes lines, each in several parts.
    fn say_lines(&self, count: u32) -> Result<(), AnyError>;
    /// Writes a text without an end to its line, so many times.
    fn say(&self, text: &str, times: u32) -> Result<(), AnyError>;
    /// Writes a line to stderr, and waits until its master has received it.
    fn warn(&self, line: &str) -> Result<(), AnyError>;
    /// Writes a line to stderr and aborts.
    fn die(&self, line: &str);
}

#[derive(Default, WorkerState)]
struct Speaker;

/// Both outputs.
fn outputs() -> [Box<dyn Write>; 2] {
    [Box::new(io::stdout()), Box::new(io::stderr())]
}

#[rpc_parallel::worker]
impl Speaks for Speaker {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn say_lines(&self, count: u32) -> Result<(), AnyError> {
        for number in 0..count {
            for mut output in outputs() {
                write!(output, "line ")?;
                output.flush()?;
                writeln!(output, "{number} of {count}")?;
            }
        }
        Ok(())
    }

    fn say(&self, text: &str, times: u32) -> Result<(), AnyError> {
        for mut output in outputs() {
            for _ in 0..times {
                output.write_all(text.as_bytes())?;
            }
            output.flush()?;
        }
        Ok(())
    }

    fn warn(&self, line: &str) -> Result<(), AnyError> {
        let began = Instant::now();
        eprintln!("{line}");
        while ioctl_fionread(io::stderr())? > 0 && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn die(&self, line: &str) {
        eprintln!("{line}");
        std::process::abort()
    }
}

fn speaker() -> Spawner<Speaker> {
    Speaker::spawner().stdout(Redirect::prefixed()).stderr(Redirect::prefixed())
}

async fn run(what: &str) -> anyhow::Result<()> {
    match what {
        "lines" => {
            let ann = speaker().name("ann").spawn(()).await?;
            let ben = speaker().name("ben").spawn(()).await?;
            let nobody = speaker().spawn(()).await?;
            println!("nobody is {}", nobody.pid().await?);
            let said = [ann.say_lines(1000), ben.say_lines(1000), nobody.say_lines(1000)];
            for (number, said) in said.map(tokio::spawn).into_iter().enumerate() {
                println!("line {number} of the master");
                eprintln!("line {number} of the master");
                said.await??;
            }
        }
        "unfinished" => {
            let ann = speaker().name("ann").spawn(()).await?;
            ann.say("no end", 1).await?;
        }
        "long" => {
            let ann = speaker().name("ann").spawn(()).await?;
            ann.say(&"x".repeat(1024), 32 * 1024).await?;
            let status = fs::read_to_string("/proc/self/status")?;
            let most = status.lines().find(|it| it.starts_with("VmHWM:"));
            println!("{}", most.unwrap_or_default());
        }
        "unheard" => {
            let ann = speaker().name("ann").spawn(()).await?;
            // Its line holds up the worker when nobody reads what this process writes.
            let held = ann.say(&"x".repeat(1024), 1024).timeout(Duration::from_millis(300));
            anyhow::ensure!(held.await.is_err());
        }
        "last" => {
            let ann = speaker().name("ann").spawn(()).await?;
            let ben = speaker().name("ben").spawn(()).await?;
            ben.say("not ", 1).await?;
            // What ann could have left to a process of its own, which lives on.
            let stderr = format!("/proc/{}/fd/2", ann.pid().await?);
            let _held = fs::OpenOptions::new().write(true).open(stderr)?;
            // What ann says last is not received by whoever waits here to show the first.
            let lock = io::stderr().lock();
            ann.warn("the first words").await?;
            anyhow::ensure!(ann.die("the last words").await.is_err());
            drop(lock);
            // Until somebody has seen them.
            io::stdin().read_line(&mut String::new())?;
            ben.say("cut", 1).await?;
        }
        "stdout-locked" => locked(io::stdout().lock()).await?,
        "stderr-locked" => locked(io::stderr().lock()).await?,
        what => anyhow::bail!("what is `{what}`?"),
    }
    Ok(())
}

/// Awaits a worker that prints much, and the death of another, while this thread holds the lock of
/// one of its own outputs.
async fn locked(lock: impl Write) -> anyhow::Result<()> {
    let ann = speaker().name("ann").spawn(()).await?;
    ann.say(&format!("{}\n", "x".repeat(1023)), 512).await?;
    let ben = speaker().name("ben").spawn(()).await?;
    let Err(error) = ben.die("the last words").await else { anyhow::bail!("it has died") };
    anyhow::ensure!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    ann.shutdown().await?;
    drop(lock);
    println!("finished");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    if rpc_parallel::expert::is_worker() {
        rpc_parallel::expert::worker_main()?;
    }
    Master::builder().start()?;
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [what, how] = &args[..] else { anyhow::bail!("shown WHAT HOW") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(what))?;
    match how.as_str() {
        "return" => Ok(()),
        "exit" => std::process::exit(3),
        how => anyhow::bail!("what is `{how}`?"),
    }
}
