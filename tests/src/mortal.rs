//! A worker that dies in every way there is, as a test tells it.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use futures_util::stream;
use rpc_parallel::error::{CallErrorKind, PipeErrorKind};
use rpc_parallel::expert::handles_panics;
use rpc_parallel::prelude::*;
use rpc_parallel::{Spawner, WorkerFailure, blocking};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::task;

use crate::failures::Failures;
use crate::process::ends;
use crate::waiting::{read, soon};

/// What a worker does until it dies.
#[rpc_parallel::worker]
pub trait Mortals {
    /// Returns its process id.
    fn pid(&self) -> u32;
    /// Returns twice the number.
    fn double(&self, number: u32) -> u32;
    /// Waits for ever.
    async fn wait(&self);
    /// Computes for ever.
    fn block(&self);
    /// Returns a pipe that is never written to and never ends.
    fn silent(&self) -> Pipe<u64>;
    /// Writes so many lines to stderr.
    fn warn(&self, lines: u32);
    /// Dies in this function.
    async fn die(&self, how: Ending);
    /// Dies in a task of its own, whatever becomes of this call.
    fn die_in_background(&self, how: Ending);
    /// Dies in a thread of its own.
    fn die_in_a_thread(&self, how: Ending);
    /// Panics where somebody handles it.
    async fn panic_safely(&self, handled: Handled) -> Result<String, AnyError>;
    /// Limits the memory of its process.
    fn limit_memory(&self, bytes: u64);
    /// Allows core dumps, if that is allowed.
    fn allow_core_dumps(&self) -> bool;
    /// Starts a process that holds all sockets of this one, as one that was only forked would, and
    /// returns it.
    fn leave_copies(&self) -> Result<u32, AnyError>;
}

/// How a process can end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Ending {
    /// It exits with this code.
    Exit(i32),
    /// It sends itself this signal.
    Signal(i32),
    /// It aborts.
    Abort,
    /// It calls itself until there is no more stack.
    Overflow,
    /// It panics.
    Panic,
    /// It panics with a message of two MiB.
    PanicAtLength,
    /// It drops what panics then.
    PanicInDrop,
    /// It panics, and what it drops then panics as well.
    PanicTwice,
    /// It takes memory until there is no more.
    Starve,
}

/// Who handles a panic.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Handled {
    /// Whoever awaits `blocking`.
    Blocking,
    /// Whoever joins the thread, which says so.
    Thread,
    /// Whoever catches it.
    Catch,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn end(how: Ending) {
    match how {
        Ending::Exit(code) => std::process::exit(code),
        // Rust's own handler, which looks for stack overflows, takes the first SIGSEGV.
        Ending::Signal(signal) => loop {
            let signal = Signal::from_named_raw(signal).expect("it is a signal");
            kill_process(getpid(), signal).expect("it is this process");
            thread::yield_now();
        },
        Ending::Abort => std::process::abort(),
        Ending::Overflow => {
            sink(u64::MAX);
        }
        Ending::Panic => panic!("it is over"),
        Ending::PanicAtLength => panic!("it is over{}", "!".repeat(2 * 1024 * 1024)),
        Ending::PanicInDrop => drop(PanicsWhenDropped),
        Ending::PanicTwice => {
            let _second = PanicsWhenDropped;
            panic!("the first");
        }
        Ending::Starve => {
            let mut hoard = Vec::new();
            loop {
                // It is written to, so that it is really there.
                hoard.push(std::hint::black_box(vec![1_u8; 16 << 20]));
            }
        }
    }
}

fn sink(depth: u64) -> u64 {
    let ballast = std::hint::black_box([depth; 128]);
    if depth == 0 { 0 } else { sink(depth - 1) + ballast[0].min(1) }
}

/// A worker that dies in whatever way it is told.
#[derive(Debug)]
pub struct Mortal;

/// How its `init` goes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Youth {
    /// It succeeds.
    Happy,
    /// It returns an error.
    Fails,
    /// It does not return.
    Dies(Ending),
    /// It succeeds, and leaves a thread behind that dies.
    Doomed(Ending),
}

impl WorkerState for Mortal {
    type Init = Youth;

    async fn init(youth: Youth) -> Result<Self, BoxError> {
        match youth {
            Youth::Happy => Ok(Self),
            Youth::Fails => Err("it was not to be".into()),
            Youth::Doomed(how) => {
                thread::spawn(move || end(how));
                Ok(Self)
            }
            Youth::Dies(how) => {
                end(how);
                Ok(Self)
            }
        }
    }
}

#[rpc_parallel::worker]
impl Mortals for Mortal {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    async fn wait(&self) {
        std::future::pending::<()>().await;
    }

    fn block(&self) {
        loop {
            std::hint::spin_loop();
        }
    }

    fn silent(&self) -> Pipe<u64> {
        Pipe::from_stream(stream::pending())
    }

    fn warn(&self, lines: u32) {
        for line in 1..=lines {
            eprintln!("this is line {line}");
        }
    }

    async fn die(&self, how: Ending) {
        end(how);
    }

    fn die_in_background(&self, how: Ending) {
        task::spawn(async move { end(how) });
    }

    fn die_in_a_thread(&self, how: Ending) {
        thread::spawn(move || end(how));
    }

    async fn panic_safely(&self, handled: Handled) -> Result<String, AnyError> {
        fn fail() -> String {
            panic!("nothing to worry about")
        }
        Ok(match handled {
            Handled::Blocking => blocking(fail).await,
            Handled::Thread => {
                let thread = thread::spawn(|| {
                    handles_panics();
                    fail()
                });
                thread.join().unwrap_or_else(|_| "the thread panicked".into())
            }
            Handled::Catch => {
                std::panic::catch_unwind(fail).unwrap_or_else(|_| "the function panicked".into())
            }
        })
    }

    fn limit_memory(&self, bytes: u64) {
        let limit = getrlimit(Resource::As);
        setrlimit(Resource::As, Rlimit { current: Some(bytes), ..limit }).expect("it is less");
    }

    fn allow_core_dumps(&self) -> bool {
        let Rlimit { maximum, .. } = getrlimit(Resource::Core);
        setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).is_ok()
    }

    fn leave_copies(&self) -> Result<u32, AnyError> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let mut copies = Vec::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let path = entry?.path();
            let number = path.file_name().and_then(|it| it.to_str()?.parse().ok());
            let target = fs::read_link(&path).unwrap_or_default();
            let Some(number) = number.filter(|_| target.to_string_lossy().starts_with("socket:"))
            else {
                continue;
            };
            let copy = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
            fcntl_setfd(&copy, FdFlags::empty())?;
            copies.push(copy);
        }
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(sleeper.spawn()?.id())
    }
}

/// Begins to choose how a mortal starts whose failures are noted.
pub fn mortal(failures: &Failures) -> Spawner<Mortal> {
    // Panics are told in one line, whatever the environment of the tests asks for.
    Mortal::spawner().name("mayfly").env("RUST_BACKTRACE", "0").on_failure(failures.note())
}

/// Starts a mortal whose failures are noted.
///
/// # Panics
///
/// It does not start.
pub async fn start(failures: &Failures) -> MortalsClient {
    mortal(failures).spawn(Youth::Happy).await.expect("start a worker")
}

/// Returns all failures that have been told when another worker has died, and that was told: what
/// has happened before is no longer on its way.
///
/// # Panics
///
/// The other worker does not die as it should.
pub async fn all_failures(failures: &Failures) -> Vec<WorkerFailure> {
    const LAST: &str = "the last";
    let last = mortal(failures).name(LAST).spawn(Youth::Happy).await.expect("start a worker");
    soon(last.die(Ending::Exit(99))).await.expect_err("it does not answer");
    failures.before(LAST).await
}

/// Where a worker dies.
#[derive(Clone, Copy, Debug)]
pub enum SourceLocation {
    /// In the function that its caller waits for.
    InACall,
    /// In a task that a function has spawned.
    InBackground,
    /// In a thread that a function has started.
    InAThread,
}

/// Has a worker die while others wait for it: all of them learn the same, and one failure is told.
///
/// # Panics
///
/// It is not so.
pub async fn exit_reason(place: SourceLocation, how: Ending) -> WorkerFailure {
    let failures = Failures::default();
    let client = start(&failures).await;
    let pid = client.pid().await.expect("call it");
    client.warn(3).await.expect("call it");
    let waiting = [tokio::spawn(client.wait()), tokio::spawn(client.wait())];
    let pipe = client.silent().await.expect("call it");
    let closed = client.clone();
    let closed = tokio::spawn(async move { closed.closed().await });

    match place {
        SourceLocation::InACall => {
            drop(soon(client.die(how)).await.expect_err("it does not answer"))
        }
        // They may be answered before the end, or not.
        SourceLocation::InBackground => drop(soon(client.die_in_background(how)).await),
        SourceLocation::InAThread => drop(soon(client.die_in_a_thread(how)).await),
    }

    let failure = failures.first().await;
    assert!(ends(pid).await, "{failure}");
    for waiting in waiting {
        let error = soon(waiting).await.expect("no panic").expect_err("it does not answer");
        assert_eq!(*error.kind(), CallErrorKind::WorkerDied(failure.clone()), "{how:?}");
    }
    let (_, error) = read(pipe).await;
    let error = error.expect("it does not just end");
    assert_eq!(*error.kind(), PipeErrorKind::WorkerDied(failure.clone()), "{how:?}");
    let reason = soon(closed).await.expect("no panic");
    assert_eq!(reason, CallErrorKind::WorkerDied(failure.clone()), "{how:?}");
    let late = soon(client.wait()).await.expect_err("it does not answer");
    assert_eq!(*late.kind(), CallErrorKind::WorkerDied(failure.clone()), "{how:?}");
    assert_eq!(all_failures(&failures).await.len(), 1, "it is told once");
    failure
}

/// Checks that the lines are told that a mortal has written before its [`exit_reason`].
///
/// # Panics
///
/// They are not.
pub fn assert_last_words(failure: &WorkerFailure) {
    let lines = ["this is line 1", "this is line 2", "this is line 3"];
    assert_eq!(failure.stderr()[..3], lines, "{failure}");
}
