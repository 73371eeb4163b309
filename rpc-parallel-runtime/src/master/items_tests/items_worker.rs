//! The worker type of these tests: functions that return, fail, panic, block, wait and exit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::{AnyError, Pipe};
use crate::worker::{BoxError, ConnectionState, Context, WorkerState, attempt};

/// A number that cannot be decoded if it is odd.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
#[serde(try_from = "u64")]
pub(super) struct Even(pub(super) u64);

impl TryFrom<u64> for Even {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number.is_multiple_of(2) { Ok(Self(number)) } else { Err(format!("{number} is odd")) }
    }
}

/// A value that panics while it is encoded.
#[derive(Deserialize, Debug)]
pub(super) struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("encoding panics")
    }
}

#[rpc_parallel::worker(crate = crate)]
pub(super) trait Items {
    fn double(&self, number: u64) -> u64;
    fn describe(&self, name: String, number: u32) -> String;
    fn add(&self, one: u64, other: u64) -> u64;
    fn add_below_hundred(&self, one: u64, other: u64) -> Result<u64, AnyError>;
    fn nothing(&self, number: u64);
    fn half(&self, number: Even) -> u64;
    /// Fails for multiples of 10, and panics for 13.
    fn check(&self, number: u64) -> Result<u64, AnyError>;
    fn unencodable(&self, number: u64) -> Unencodable;
    fn bytes(&self, count: usize) -> Vec<u8>;
    fn pipe(&self, number: u64) -> Pipe<u64>;
    /// Blocks the thread until the file exists.
    fn block_until(&self, file: Option<PathBuf>) -> bool;
    /// Blocks the thread for this time.
    fn block_for(&self, micros: u64) -> u64;
    /// Waits until the file exists.
    async fn wait_until(&self, file: Option<PathBuf>) -> bool;
    /// Returns how many of these items are running after two turns of the runtime.
    async fn running(&self, number: u64) -> usize;
    async fn double_later(&self, number: u64) -> u64;
    /// Waits until it is dropped, which it notes in a file.
    async fn wait_until_dropped(&self, note: PathBuf);
    fn attempt(&self, number: u64) -> u32;
    fn attempt_in_context(&self, cx: &Context<Threads>, number: u64) -> u32;
    /// Exits if the number is 13.
    fn exit_at_13(&self, number: u64) -> u64;
    async fn exit_at_13_later(&self, number: u64) -> u64;
    /// Writes the thread ids of all user code so far.
    fn threads(&self, cx: &Context<Threads>, number: u64) -> String;
    fn is_cancelled_after(&self, cx: &Context<Threads>, file: PathBuf);
}

/// Notes the threads on which user code runs.
#[derive(Default)]
pub(super) struct State {
    running: AtomicUsize,
    threads: Mutex<Vec<String>>,
    /// The file to which `on_shutdown` writes the threads.
    file: Option<PathBuf>,
}

pub(super) struct Threads;

/// The name of the file of a worker whose connections fail.
pub(super) const FAILS: &str = "fails";

impl State {
    fn note(&self, what: &str) -> String {
        let mut threads = self.threads.lock().expect("no code panics while it holds this lock");
        threads.push(format!("{what} {:?}", thread::current().id()));
        threads.join("\n")
    }
}

impl WorkerState for State {
    type Init = Option<PathBuf>;

    async fn init(file: Option<PathBuf>) -> Result<Self, BoxError> {
        let state = Self { file, ..Self::default() };
        state.note("init");
        Ok(state)
    }

    async fn on_shutdown(&self) {
        let threads = self.note("shutdown");
        if let Some(file) = &self.file {
            fs::write(file, threads).expect("write the file");
        }
    }
}

impl ConnectionState<State> for Threads {
    type Init = ();

    async fn init(state: &State, (): ()) -> Result<Self, BoxError> {
        state.note("connection");
        let fails = state.file.as_ref().is_some_and(|it| it.ends_with(FAILS));
        if fails { Err("no connection".into()) } else { Ok(Self) }
    }
}

fn wait_for(file: Option<&Path>) -> bool {
    let Some(file) = file else { return false };
    while !file.exists() {
        thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Notes in a file that it was dropped.
struct NoteDrop(PathBuf);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        fs::write(&self.0, "").expect("write the file");
    }
}

#[rpc_parallel::worker(crate = crate)]
impl Items for State {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }

    fn describe(&self, name: String, number: u32) -> String {
        format!("{name} {number}")
    }

    fn add(&self, one: u64, other: u64) -> u64 {
        one + other
    }

    fn add_below_hundred(&self, one: u64, other: u64) -> Result<u64, AnyError> {
        let sum = one + other;
        if sum < 100 { Ok(sum) } else { Err("the sum is too large".into()) }
    }

    fn nothing(&self, _: u64) {}

    fn half(&self, number: Even) -> u64 {
        number.0 / 2
    }

    fn check(&self, number: u64) -> Result<u64, AnyError> {
        match number {
            13 => panic!("number 13"),
            _ if number.is_multiple_of(10) => Err(AnyError::new(number)),
            _ => Ok(number),
        }
    }

    fn unencodable(&self, _: u64) -> Unencodable {
        Unencodable
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        vec![7; count]
    }

    fn pipe(&self, _: u64) -> Pipe<u64> {
        Pipe::from_items(0..1)
    }

    fn block_until(&self, file: Option<PathBuf>) -> bool {
        wait_for(file.as_deref())
    }

    fn block_for(&self, micros: u64) -> u64 {
        thread::sleep(Duration::from_micros(micros));
        micros
    }

    async fn wait_until(&self, file: Option<PathBuf>) -> bool {
        let Some(file) = file else { return false };
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    async fn running(&self, _: u64) -> usize {
        self.running.fetch_add(1, Ordering::Relaxed);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let running = self.running.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        running
    }

    async fn double_later(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        number * 2
    }

    async fn wait_until_dropped(&self, note: PathBuf) {
        fs::write(note.with_extension("begun"), "").expect("write the file");
        let _note = NoteDrop(note);
        std::future::pending::<()>().await;
    }

    fn attempt(&self, _: u64) -> u32 {
        attempt()
    }

    fn attempt_in_context(&self, cx: &Context<Threads>, _: u64) -> u32 {
        cx.attempt()
    }

    fn exit_at_13(&self, number: u64) -> u64 {
        if number == 13 {
            std::process::exit(7);
        }
        number
    }

    async fn exit_at_13_later(&self, number: u64) -> u64 {
        tokio::task::yield_now().await;
        self.exit_at_13(number)
    }

    fn threads(&self, _: &Context<Threads>, _: u64) -> String {
        self.note("item")
    }

    fn is_cancelled_after(&self, cx: &Context<Threads>, file: PathBuf) {
        fs::write(file.with_extension("begun"), "").expect("write the file");
        while !cx.is_cancelled() {
            thread::yield_now();
        }
        fs::write(file, "").expect("write the file");
    }
}
