//! A master without `#[entry]` that prefixes the lines of its workers: `prefixed_output MODE END`.
//!
//! It ends as soon as the workers have written their lines: END is `return` from `main`, or `exit`.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::expert::Master;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rustix::io::ioctl_fionread;

#[rpc_parallel::worker]
trait Prints {
    fn pid(&self) -> u32;
    /// Writes lines to both outputs, each in several parts.
    fn print_lines(&self, count: u32) -> Result<(), AnyError>;
    /// Writes a text without a line feed to both outputs, this many times.
    fn print(&self, text: &str, times: u32) -> Result<(), AnyError>;
    /// Writes a line to stderr, and waits until the master has received it.
    fn print_and_wait(&self, line: &str) -> Result<(), AnyError>;
    /// Writes a line to stderr and aborts.
    fn abort(&self, line: &str);
}

#[derive(Default, WorkerState)]
struct Printer;

/// Returns stdout and stderr.
fn outputs() -> [Box<dyn Write>; 2] {
    [Box::new(io::stdout()), Box::new(io::stderr())]
}

#[rpc_parallel::worker]
impl Prints for Printer {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn print_lines(&self, count: u32) -> Result<(), AnyError> {
        for number in 0..count {
            for mut output in outputs() {
                write!(output, "line ")?;
                output.flush()?;
                writeln!(output, "{number} of {count}")?;
            }
        }
        Ok(())
    }

    fn print(&self, text: &str, times: u32) -> Result<(), AnyError> {
        for mut output in outputs() {
            for _ in 0..times {
                output.write_all(text.as_bytes())?;
            }
            output.flush()?;
        }
        Ok(())
    }

    fn print_and_wait(&self, line: &str) -> Result<(), AnyError> {
        let began = Instant::now();
        eprintln!("{line}");
        while ioctl_fionread(io::stderr())? > 0 && began.elapsed() < TEST_TIMEOUT {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn abort(&self, line: &str) {
        eprintln!("{line}");
        std::process::abort()
    }
}

fn printer() -> Spawner<Printer> {
    Printer::spawner().stdout(Redirect::prefixed()).stderr(Redirect::prefixed())
}

async fn run(mode: &str) -> anyhow::Result<()> {
    match mode {
        "lines" => {
            let first = printer().name("first").spawn(()).await?;
            let second = printer().name("second").spawn(()).await?;
            let unnamed = printer().spawn(()).await?;
            println!("unnamed is {}", unnamed.pid().await?);
            let printing =
                [first.print_lines(1000), second.print_lines(1000), unnamed.print_lines(1000)];
            for (number, printed) in printing.map(tokio::spawn).into_iter().enumerate() {
                println!("line {number} of the master");
                eprintln!("line {number} of the master");
                printed.await??;
            }
        }
        "unfinished" => {
            let first = printer().name("first").spawn(()).await?;
            first.print("no end", 1).await?;
        }
        "long" => {
            let first = printer().name("first").spawn(()).await?;
            first.print(&"x".repeat(1024), 32 * 1024).await?;
            let status = fs::read_to_string("/proc/self/status")?;
            let most = status.lines().find(|it| it.starts_with("VmHWM:"));
            println!("{}", most.unwrap_or_default());
        }
        "unread" => {
            let first = printer().name("first").spawn(()).await?;
            // The line blocks the worker because no process reads this process's output.
            let blocked = first.print(&"x".repeat(1024), 1024).timeout(Duration::from_millis(300));
            anyhow::ensure!(blocked.await.is_err());
        }
        "last" => {
            let first = printer().name("first").spawn(()).await?;
            let second = printer().name("second").spawn(()).await?;
            second.print("not ", 1).await?;
            // A child of the worker could hold the same descriptor.
            let stderr = format!("/proc/{}/fd/2", first.pid().await?);
            let _held = fs::OpenOptions::new().write(true).open(stderr)?;
            // The relay waits for this lock with the first line, and receives the last one afterwards.
            let lock = io::stderr().lock();
            first.print_and_wait("first line").await?;
            anyhow::ensure!(first.abort("last line").await.is_err());
            drop(lock);
            // The test confirms that it has read both lines.
            io::stdin().read_line(&mut String::new())?;
            second.print("cut", 1).await?;
        }
        "stdout-locked" => locked(io::stdout().lock()).await?,
        "stderr-locked" => locked(io::stderr().lock()).await?,
        mode => anyhow::bail!("unknown mode `{mode}`"),
    }
    Ok(())
}

/// Awaits a worker that prints many lines and the failure of another, while this thread holds the
/// lock of one of its own outputs.
async fn locked(lock: impl Write) -> anyhow::Result<()> {
    let first = printer().name("first").spawn(()).await?;
    first.print(&format!("{}\n", "x".repeat(1023)), 512).await?;
    let second = printer().name("second").spawn(()).await?;
    let Err(error) = second.abort("last line").await else {
        anyhow::bail!("an aborted worker answers")
    };
    anyhow::ensure!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    first.shutdown().await?;
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
    let [mode, end] = &args[..] else { anyhow::bail!("usage: prefixed_output MODE END") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(mode))?;
    match end.as_str() {
        "return" => Ok(()),
        "exit" => std::process::exit(3),
        end => anyhow::bail!("unknown end `{end}`"),
    }
}
