//! Scripts: actions that a worker performs, as plain data that a test sends it.

use std::fs::File;
use std::future::pending;
use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::gate::GateAddress;
use crate::program::print_line;
use crate::waiting::Events;

/// What a scripted worker does. Default: nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Script {
    /// Actions that its `init` performs in this order.
    pub init: Vec<Action>,
    /// Actions that its `on_shutdown` performs in this order.
    pub on_shutdown: Vec<Action>,
}

/// One thing that a scripted worker does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Returns at once.
    Return,
    /// Returns this error. In a function that writes a pipe: the pipe fails with it.
    Fail(String),
    /// Panics with this message.
    PanicWith(String),
    /// Drops a value whose destructor panics with the message `panic in a destructor`.
    PanicInDrop,
    /// Panics, and panics in a destructor while the stack unwinds, which aborts the process.
    PanicTwice,
    /// Exits with this code.
    Exit(i32),
    /// Sends this signal to its own process until the process has ended.
    Signal(i32),
    /// Aborts the process.
    Abort,
    /// Recurses until the stack overflows.
    OverflowStack,
    /// Allocates and writes memory until an allocation fails or the process is killed.
    ExhaustMemory,
    /// Allocates and writes this many bytes of memory, and never frees them.
    Leak(usize),
    /// Waits forever without blocking the thread.
    Wait,
    /// Waits until this event has been noted.
    WaitFor(String),
    /// Waits for this long without blocking the thread.
    Sleep(Duration),
    /// Blocks the thread forever.
    Block,
    /// Blocks the thread forever in a read of an empty pipe.
    BlockInRead,
    /// Blocks the thread for this long.
    BlockFor(Duration),
    /// Uses the processor for this long.
    ComputeFor(Duration),
    /// Blocks the thread until the gate opens.
    BlockAtGate(GateAddress),
    /// Notifies the gate and continues.
    NotifyGate(GateAddress),
    /// Notes an event.
    Note(String),
    /// Prints a line to stdout.
    Print(String),
    /// Prints the process id and that of the parent process to stdout.
    PrintPids,
    /// Prints this text, a space and the process id to stdout, with one write.
    PrintWithPid(String),
    /// Prints a line to stderr.
    PrintToStderr(String),
    /// Appends this text, a space, the process id and a line feed to a file.
    AppendTo(PathBuf, String),
    /// Creates a file; fails if it exists.
    CreateFile(PathBuf),
    /// Keeps the process running at each later SIGTERM.
    IgnoreSigterm,
    /// Performs actions in this order until one fails.
    Sequence(Vec<Action>),
    /// Performs an action in a new task, and returns at once.
    InTask(Box<Action>),
    /// Performs an action in a new thread, and returns at once. `Wait`, `WaitFor`, `Sleep`,
    /// `IgnoreSigterm` and `InTask` need a runtime and panic there.
    InThread(Box<Action>),
}

impl Script {
    /// Makes a script whose `init` performs these actions.
    pub fn init(actions: impl Into<Vec<Action>>) -> Self {
        Self { init: actions.into(), ..Self::default() }
    }

    /// Makes a script whose `on_shutdown` performs these actions.
    pub fn on_shutdown(actions: impl Into<Vec<Action>>) -> Self {
        Self { on_shutdown: actions.into(), ..Self::default() }
    }
}

impl From<()> for Script {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl Action {
    /// Makes an action that panics with the message `scripted panic`.
    #[must_use]
    pub fn panic() -> Self {
        Self::PanicWith("scripted panic".to_owned())
    }

    /// Makes an action that performs this one in a new task.
    #[must_use]
    pub fn in_task(self) -> Self {
        Self::InTask(Box::new(self))
    }

    /// Makes an action that performs this one in a new thread.
    #[must_use]
    pub fn in_thread(self) -> Self {
        Self::InThread(Box::new(self))
    }

    /// Performs this action. Its events go to `events`.
    pub fn perform(self, events: Events) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            match self {
                Self::Wait => pending().await,
                Self::WaitFor(event) => events.happened(&event).await,
                Self::Sleep(time) => sleep(time).await,
                Self::IgnoreSigterm => {
                    let mut terminated = signal(SignalKind::terminate())?;
                    tokio::spawn(async move { while terminated.recv().await.is_some() {} });
                }
                Self::Sequence(actions) => {
                    for action in actions {
                        action.perform(events.clone()).await?;
                    }
                }
                Self::InTask(action) => {
                    tokio::spawn(action.perform(events));
                }
                action => action.perform_without_runtime(&events)?,
            }
            Ok(())
        })
    }

    fn perform_without_runtime(self, events: &Events) -> io::Result<()> {
        match self {
            Self::Return => {}
            Self::Fail(why) => return Err(io::Error::other(why)),
            Self::PanicWith(message) => panic!("{message}"),
            Self::PanicInDrop => drop(PanicsInDrop),
            Self::PanicTwice => {
                let _second = PanicsInDrop;
                panic!("the first panic");
            }
            Self::Exit(code) => std::process::exit(code),
            // The first SIGSEGV runs std's own handler, which looks for stack overflows.
            Self::Signal(signal) => loop {
                let signal = Signal::from_named_raw(signal).expect("the number is a signal");
                kill_process(getpid(), signal).expect("this process exists");
                thread::yield_now();
            },
            Self::Abort => std::process::abort(),
            Self::OverflowStack => {
                recurse(u64::MAX);
            }
            Self::ExhaustMemory => {
                let mut blocks = Vec::new();
                loop {
                    // Written bytes are resident.
                    blocks.push(std::hint::black_box(vec![1_u8; 16 << 20]));
                }
            }
            Self::Leak(bytes) => std::mem::forget(std::hint::black_box(vec![1_u8; bytes])),
            Self::Block => block(),
            Self::BlockInRead => {
                // This function itself holds the writer.
                let (mut reader, _writer) = io::pipe()?;
                let read = reader.read(&mut [0]);
                panic!("an empty pipe was read: {read:?}");
            }
            Self::BlockFor(time) => thread::sleep(time),
            Self::ComputeFor(time) => {
                let began = Instant::now();
                while began.elapsed() < time {
                    std::hint::spin_loop();
                }
            }
            Self::BlockAtGate(gate) => gate.block(),
            Self::NotifyGate(gate) => gate.notify(),
            Self::Note(event) => events.note(event),
            Self::Print(line) => println!("{line}"),
            Self::PrintPids => println!("{} {}", std::process::id(), parent_id()),
            Self::PrintWithPid(text) => print_line(&format!("{text} {}", std::process::id())),
            Self::PrintToStderr(line) => eprintln!("{line}"),
            Self::AppendTo(path, text) => {
                let line = format!("{text} {}\n", std::process::id());
                let mut file = File::options().append(true).create(true).open(path)?;
                file.write_all(line.as_bytes())?;
            }
            Self::CreateFile(path) => drop(File::create_new(path)?),
            Self::Sequence(actions) => {
                for action in actions {
                    action.perform_without_runtime(events)?;
                }
            }
            Self::InThread(action) => {
                let events = events.clone();
                thread::spawn(move || {
                    action.perform_without_runtime(&events).expect("an action succeeds");
                });
            }
            action @ (Self::Wait
            | Self::WaitFor(_)
            | Self::Sleep(_)
            | Self::IgnoreSigterm
            | Self::InTask(_)) => panic!("{action:?} needs a runtime"),
        }
        Ok(())
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("panic in a destructor");
    }
}

/// Blocks the thread forever.
pub fn block() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 128]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[0].min(1) }
}
