//! Whatever goes wrong with a call, its caller learns of it, and nobody else suffers.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, ExitReason, MessageKind, PanicReport, TooLarge};
use rpc_parallel::launch::PanicPolicy;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, ends};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tokio::join;
use tokio::time::timeout;

/// All that a function can do to its caller, and to its process.
#[rpc_parallel::worker]
trait Mishaps {
    async fn pid(&self) -> u32;
    async fn wait(&self);
    async fn read(&self, path: &str) -> Result<String, AnyError>;
    fn plain_panic(&self, number: u32) -> u32;
    async fn panic_at_once(&self);
    async fn panic_after_a_while(&self);
    async fn panic_without_a_text(&self);
    async fn panic_when_dropped(&self);
    async fn die(&self, how: Ending);
    async fn sink(&self, depth: u64) -> u64;
    async fn chat(&self, lines: u32, then: Ending);
    async fn take(&self, bytes: &[u8]) -> usize;
    async fn give(&self, count: usize) -> Vec<u8>;
    async fn pass(&self, stubborn: Stubborn) -> Stubborn;
    async fn make(&self, stubborn: u8) -> Stubborn;
}

/// How a process can end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Ending {
    Kill,
    Segfault,
    Abort,
    Exit,
    PanicTwice,
}

/// A value that does not want to travel.
#[derive(Clone, PartialEq, Debug)]
struct Stubborn(u8);

impl Stubborn {
    const TRAVELS: u8 = 0;
    const NEVER_LEAVES: u8 = 1;
    const NEVER_ARRIVES: u8 = 2;
    const PANICS_LEAVING: u8 = 3;
    const PANICS_ARRIVING: u8 = 4;
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Self::NEVER_LEAVES => Err(ser::Error::custom("it stays here")),
            Self::PANICS_LEAVING => panic!("it will not leave"),
            number => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            Self::NEVER_ARRIVES => Err(de::Error::custom("it is not wanted here")),
            Self::PANICS_ARRIVING => panic!("it will not arrive"),
            number => Ok(Self(number)),
        }
    }
}

/// A cause, and what it caused.
#[derive(Debug)]
struct NoSuchBook(io::Error);

impl fmt::Display for NoSuchBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read the book")
    }
}

impl std::error::Error for NoSuchBook {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn end(how: Ending) {
    match how {
        Ending::Kill => kill_process(getpid(), Signal::KILL).expect("it is this process"),
        // Rust's own handler, which looks for stack overflows, takes the first.
        Ending::Segfault => loop {
            kill_process(getpid(), Signal::SEGV).expect("it is this process");
        },
        Ending::Abort => std::process::abort(),
        Ending::Exit => std::process::exit(7),
        Ending::PanicTwice => {
            let _second = PanicsWhenDropped;
            panic!("the first");
        }
    }
}

#[derive(Default, WorkerState)]
struct Fragile;

#[rpc_parallel::worker]
impl Mishaps for Fragile {
    async fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn wait(&self) {
        std::future::pending::<()>().await;
    }

    async fn read(&self, path: &str) -> Result<String, AnyError> {
        Ok(std::fs::read_to_string(path).map_err(NoSuchBook)?)
    }

    fn plain_panic(&self, number: u32) -> u32 {
        assert!(number < 7, "{number} is too much");
        number
    }

    async fn panic_at_once(&self) {
        panic!("at once");
    }

    async fn panic_after_a_while(&self) {
        tokio::task::yield_now().await;
        panic!("after a while");
    }

    async fn panic_without_a_text(&self) {
        std::panic::panic_any(7);
    }

    async fn panic_when_dropped(&self) {
        let _first = PanicsWhenDropped;
        tokio::task::yield_now().await;
    }

    async fn die(&self, how: Ending) {
        end(how);
    }

    async fn sink(&self, depth: u64) -> u64 {
        fn sink(depth: u64) -> u64 {
            let ballast = std::hint::black_box([depth; 128]);
            if depth == 0 { 0 } else { sink(depth - 1) + ballast[0].min(1) }
        }
        sink(depth)
    }

    async fn chat(&self, lines: u32, then: Ending) {
        for line in 1..=lines {
            eprintln!("this is line {line}");
        }
        io::stderr().flush().expect("stderr takes it");
        end(then);
    }

    async fn take(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    async fn give(&self, count: usize) -> Vec<u8> {
        vec![7; count]
    }

    async fn pass(&self, stubborn: Stubborn) -> Stubborn {
        stubborn
    }

    async fn make(&self, stubborn: u8) -> Stubborn {
        Stubborn(stubborn)
    }
}

async fn start() -> MishapsClient {
    Fragile::spawn(()).await.expect("start a worker")
}

fn kind<T>(result: Result<T, CallError>) -> CallErrorKind {
    result.err().expect("it fails").kind().clone()
}

fn panicked<T>(result: Result<T, CallError>) -> PanicReport {
    match kind(result) {
        CallErrorKind::Panicked(panic) => panic,
        other => panic!("{other}"),
    }
}

#[rpc_parallel::test]
async fn any_error_carries_its_causes_to_the_caller() {
    let worker = start().await;

    let read = worker.read("/there/is/no/such/book").await;

    let Err(FunctionError::Function(error)) = read else { panic!("{read:?}") };
    assert_eq!(error.causes().len(), 1);
    assert_eq!(error.to_string(), "read the book: No such file or directory (os error 2)");
    assert_eq!(worker.read("/dev/null").await, Ok(String::new()));
}

#[rpc_parallel::test]
async fn the_error_of_a_call_names_the_function_and_the_worker() {
    let worker = Fragile::spawner().name("glass").spawn(()).await.expect("start a worker");

    let error = worker.plain_panic(7).await.expect_err("it panics");

    let label = worker.label();
    assert_eq!(error.worker(), &*label);
    assert_eq!(error.function().name(), "plain_panic");
    let text = error.to_string();
    assert!(text.starts_with("call `Mishaps::plain_panic` on worker `glass` ("), "{text}");
    let pid = label.pid().expect("it is a process of this machine");
    assert!(text.contains(&format!("pid {pid} on {}", label.host())), "{text}");
    assert!(text.contains("panicked at ") && text.ends_with(": 7 is too much"), "{text}");
}

#[rpc_parallel::test]
async fn a_panic_reaches_the_caller_with_its_text_and_place() {
    let worker = start().await;

    let panics = [
        panicked(worker.plain_panic(7).await),
        panicked(worker.panic_at_once().await),
        panicked(worker.panic_after_a_while().await),
        panicked(worker.panic_when_dropped().await),
    ];

    let texts = panics.each_ref().map(|it| it.message.as_str());
    assert_eq!(texts, ["7 is too much", "at once", "after a while", "dropped"]);
    for panic in panics {
        let location = panic.location.expect("it was seen");
        assert!(location.starts_with(file!()) || location.contains("errors.rs:"), "{location}");
    }
    assert_eq!(worker.plain_panic(6).await, Ok(6));
}

#[rpc_parallel::test]
async fn a_panic_need_not_have_a_text() {
    let worker = start().await;

    let panic = panicked(worker.panic_without_a_text().await);

    assert_eq!(panic.message, "(a value that is no text)");
}

#[rpc_parallel::test]
async fn a_panic_leaves_the_calls_beside_it_alone() {
    let worker = start().await;
    let pid = worker.pid().await;

    let (beside, panicked, after) =
        join!(worker.take(b"abc"), worker.panic_after_a_while(), worker.take(b"abcd"));

    assert!(matches!(kind(panicked), CallErrorKind::Panicked(_)));
    assert_eq!((beside, after), (Ok(3), Ok(4)));
    assert_eq!(worker.pid().await, pid);
}

#[rpc_parallel::test]
async fn a_panic_ends_the_worker_where_that_was_chosen() {
    let worker = Fragile::spawner().panics(PanicPolicy::EndWorker).spawn(()).await;
    let worker = worker.expect("start a worker");
    let pid = worker.pid().await.expect("call it");

    let (beside, panicked) = join!(worker.wait(), worker.panic_after_a_while());

    for died in [kind(beside), kind(panicked)] {
        let CallErrorKind::WorkerDied(failure) = died else { panic!("{died}") };
        let panic = failure.panic().expect("there was one");
        assert_eq!(
            (failure.exit_reason(), panic.message.as_str()),
            (ExitReason::Exited(254), "after a while")
        );
    }
    assert!(ends(pid).await, "it died");
}

/// What happened to calls when their worker died of something.
async fn deaths(how: Ending) -> Vec<(ExitReason, String)> {
    let worker = start().await;
    let pid = worker.pid().await.expect("call it");

    let calls = [worker.wait(), worker.wait(), worker.chat(3, how), worker.wait()];
    let mut results = join_all(calls.map(|it| it.timeout(PATIENCE))).await;
    results.push(worker.wait().timeout(PATIENCE).await);
    results.push(worker.wait().timeout(PATIENCE).await);

    assert!(ends(pid).await, "it died");
    assert!(worker.is_closed());
    let kinds: Vec<_> = results.into_iter().map(kind).collect();
    assert!(kinds.iter().all(|it| *it == kinds[0]), "{kinds:?}");
    assert_eq!(timeout(PATIENCE, worker.closed()).await.as_ref(), Ok(&kinds[0]));
    let failures = kinds.into_iter().map(|it| match it {
        CallErrorKind::WorkerDied(failure) => failure,
        other => panic!("{other}"),
    });
    failures.map(|it| (it.exit_reason(), it.stderr().join("\n"))).collect()
}

/// Checks the signal, and that what was written before is there.
async fn assert_killed_by(signal: Signal, how: Ending) {
    for (exit_reason, stderr) in deaths(how).await {
        let ExitReason::Signaled { signal: found, .. } = exit_reason else {
            panic!("{exit_reason}")
        };
        assert_eq!(found, signal.as_raw());
        assert!(stderr.contains("this is line 1\nthis is line 2\nthis is line 3"), "{stderr}");
    }
}

#[rpc_parallel::test]
async fn every_call_learns_that_its_worker_was_killed() {
    assert_killed_by(Signal::KILL, Ending::Kill).await;
}

#[rpc_parallel::test]
async fn every_call_learns_of_a_segmentation_fault() {
    assert_killed_by(Signal::SEGV, Ending::Segfault).await;
}

#[rpc_parallel::test]
async fn every_call_learns_of_an_abort() {
    assert_killed_by(Signal::ABORT, Ending::Abort).await;
}

#[rpc_parallel::test]
async fn every_call_learns_of_a_panic_within_a_panic() {
    for (exit_reason, stderr) in deaths(Ending::PanicTwice).await {
        assert!(matches!(exit_reason, ExitReason::Signaled { .. }), "{exit_reason}");
        assert!(stderr.contains("panic in a destructor during cleanup"), "{stderr}");
    }
}

#[rpc_parallel::test]
async fn every_call_learns_of_an_exit_and_its_code() {
    for (exit_reason, stderr) in deaths(Ending::Exit).await {
        assert_eq!(exit_reason, ExitReason::Exited(7));
        assert_eq!(stderr, "this is line 1\nthis is line 2\nthis is line 3");
    }
}

#[rpc_parallel::test]
async fn a_stack_overflow_is_a_death_like_others() {
    let worker = start().await;

    assert_eq!(worker.sink(10).await, Ok(10));
    let died = kind(worker.sink(u64::MAX).timeout(PATIENCE).await);

    let CallErrorKind::WorkerDied(failure) = died else { panic!("{died}") };
    assert!(matches!(failure.exit_reason(), ExitReason::Signaled { .. }), "{failure}");
    assert!(failure.to_string().contains("has overflowed its stack"), "{failure}");
}

#[rpc_parallel::test]
async fn a_death_is_told_in_words() {
    let worker = start().await;

    let error = worker.chat(1, Ending::Kill).await.expect_err("it dies");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let (worker, uptime) = (worker.label(), failure.uptime().as_millis());
    let expected = format!(
        "call `Mishaps::chat` on {worker}: the worker was killed by signal 9 (SIGKILL) \
         after {uptime} ms; the last lines of its stderr:\n  | this is line 1",
    );
    assert_eq!(error.to_string(), expected);
    let expected = format!(
        "{worker} was killed by signal 9 (SIGKILL) after {uptime} ms, \
         while `Mishaps::chat` ran; the last lines of its stderr:\n  | this is line 1",
    );
    assert_eq!(failure.to_string(), expected);
}

#[rpc_parallel::test]
async fn of_a_long_story_the_last_lines_are_told() {
    let worker = start().await;

    let died = kind(worker.chat(10_000, Ending::Exit).await);

    let CallErrorKind::WorkerDied(failure) = died else { panic!("{died}") };
    let lines = failure.stderr();
    assert_eq!(lines.last().map(String::as_str), Some("this is line 10000"));
    assert_eq!(lines.len(), 20);
}

#[rpc_parallel::test]
async fn every_connection_of_a_started_worker_learns_of_its_death() {
    let worker = Fragile::spawner().start(()).await.expect("start a worker");
    let one = worker.connect(()).await.expect("connect to it");
    let other = worker.connect(()).await.expect("connect to it");

    let (waited, died) = join!(one.wait().timeout(PATIENCE), other.die(Ending::Exit));

    for kind in [kind(waited), kind(died)] {
        let CallErrorKind::WorkerDied(failure) = kind else { panic!("{kind}") };
        assert_eq!(failure.exit_reason(), ExitReason::Exited(7));
    }
}

/// Looks on, from another process.
#[rpc_parallel::worker]
trait Witness {
    async fn wait(&self, worker: Worker<Fragile>) -> Result<(), AnyError>;
}

#[derive(Default, WorkerState)]
struct Bystander;

#[rpc_parallel::worker]
impl Witness for Bystander {
    async fn wait(&self, worker: Worker<Fragile>) -> Result<(), AnyError> {
        let client = worker.connect(()).await?;
        let (_, waited) = join!(client.die(Ending::Exit), client.wait().timeout(PATIENCE));
        Ok(waited?)
    }
}

#[rpc_parallel::test]
async fn who_did_not_start_a_worker_learns_that_the_connection_is_lost() {
    let worker = Fragile::spawner().start(()).await.expect("start a worker");
    let bystander = Bystander::spawn(()).await.expect("start a worker");

    let waited = bystander.wait(worker).timeout(PATIENCE).await;

    let Err(FunctionError::Function(error)) = waited else { panic!("{waited:?}") };
    let text = error.to_string();
    // What exactly is seen of it depends on what the worker had not read yet.
    assert!(text.contains(": connection lost: "), "{text}");
}

#[rpc_parallel::test]
fn calls_end_with_the_runtime_that_drives_their_connection() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let worker = first.block_on(start());
    let waiting = second.spawn(worker.wait().timeout(PATIENCE));

    drop(first);
    let later = second.block_on(worker.wait().timeout(PATIENCE));
    let waiting = second.block_on(waiting).expect("no panic");

    for kind in [kind(waiting), kind(later)] {
        let CallErrorKind::ConnectionLost { why } = kind else { panic!("{kind}") };
        assert!(why.contains("runtime"), "{why}");
    }
}

/// The functions of a later version.
#[rpc_parallel::worker]
trait LaterMishaps {
    async fn explain(&self) -> String;
}

#[rpc_parallel::test]
async fn a_function_that_the_worker_lacks_is_answered_with_those_it_has() {
    let worker = start().await;
    let later = LaterMishapsClient::from_client(worker.client().clone());

    let error = later.explain().timeout(PATIENCE).await.expect_err("it is unknown");

    let CallErrorKind::UnknownFunction { offers } = error.kind() else { panic!("{error}") };
    assert!(offers.contains(&"take(&[u8])->usize".into()), "{offers:?}");
    assert_eq!(offers.len(), 15);
    let text = error.to_string();
    assert!(text.contains("no such function") && text.contains("`wait()->()`"), "{text}");
    assert_eq!(worker.take(b"abc").await, Ok(3));
}

const LIMIT: usize = 10_000;

async fn start_limited() -> MishapsClient {
    let settings = Settings::default().with_max_message_size(LIMIT);
    Fragile::spawner().settings(settings).spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn arguments_that_are_too_large_are_refused_with_both_numbers() {
    let worker = start_limited().await;

    let refused = kind(worker.take(&[0; 2 * LIMIT]).await);

    // A little more than the bytes themselves: their number, and that they are the one argument.
    let size = 2 * LIMIT + 4;
    let too_large = TooLarge { size, max: LIMIT };
    assert_eq!(refused, CallErrorKind::TooLarge { side: MessageKind::Arguments, too_large });
    assert!(refused.to_string().contains("20004") && refused.to_string().contains("10000"));
    assert_eq!(worker.take(&[0; LIMIT - 4]).await, Ok(LIMIT - 4));
    assert!(worker.take(&[0; LIMIT - 3]).await.is_err());
}

#[rpc_parallel::test]
async fn results_that_are_too_large_are_refused_with_both_numbers() {
    let worker = start_limited().await;

    let refused = kind(worker.give(2 * LIMIT).await);

    let too_large = TooLarge { size: 2 * LIMIT + 3, max: LIMIT };
    assert_eq!(refused, CallErrorKind::TooLarge { side: MessageKind::Result, too_large });
    assert_eq!(worker.give(LIMIT - 3).await, Ok(vec![7; LIMIT - 3]));
    assert!(worker.give(LIMIT - 2).await.is_err());
}

#[rpc_parallel::test]
async fn large_messages_flow_both_ways_at_once() {
    let worker = start().await;
    let large = vec![7; 2_000_000];

    // Far more than sockets hold: who waits for writing must still read.
    let taking = join_all((0..4).map(|_| worker.take(&large).timeout(PATIENCE)));
    let giving = join_all((0..4).map(|_| worker.give(large.len()).timeout(PATIENCE)));
    let (taken, given) = join!(taking, giving);

    assert!(taken.iter().all(|it| *it == Ok(large.len())));
    assert!(given.iter().all(|it| it.as_ref() == Ok(&large)));
}

#[rpc_parallel::test]
async fn a_value_that_cannot_be_encoded_fails_its_call_only() {
    let worker = start().await;

    let leaving = kind(worker.pass(Stubborn(Stubborn::NEVER_LEAVES)).await);
    let returning = kind(worker.make(Stubborn::NEVER_LEAVES).await);

    for (kind, expected) in [(leaving, MessageKind::Arguments), (returning, MessageKind::Result)] {
        let CallErrorKind::Unencodable { side, why } = kind else { panic!("{kind}") };
        assert_eq!(side, expected);
        assert!(why.contains("Stubborn") && why.ends_with("it stays here"), "{why}");
    }
    let travels = Stubborn(Stubborn::TRAVELS);
    assert_eq!(worker.pass(travels.clone()).await, Ok(travels));
}

#[rpc_parallel::test]
async fn a_value_that_cannot_be_decoded_fails_its_call_only() {
    let worker = start().await;

    let arriving = kind(worker.pass(Stubborn(Stubborn::NEVER_ARRIVES)).await);
    let returning = kind(worker.make(Stubborn::NEVER_ARRIVES).await);

    for (kind, expected) in [(arriving, MessageKind::Arguments), (returning, MessageKind::Result)] {
        let CallErrorKind::Undecodable { side, why } = kind else { panic!("{kind}") };
        assert_eq!(side, expected);
        assert!(why.contains("Stubborn") && why.ends_with("it is not wanted here"), "{why}");
    }
    let travels = Stubborn(Stubborn::TRAVELS);
    assert_eq!(worker.pass(travels.clone()).await, Ok(travels));
}

#[rpc_parallel::test]
async fn a_panic_while_the_worker_decodes_or_encodes_fails_its_call_only() {
    let worker = start().await;

    let arriving = panicked(worker.pass(Stubborn(Stubborn::PANICS_ARRIVING)).await);
    let leaving = panicked(worker.make(Stubborn::PANICS_LEAVING).await);

    assert_eq!(arriving.message, "it will not arrive");
    assert_eq!(leaving.message, "it will not leave");
    assert_eq!(worker.take(b"abc").await, Ok(3));
}

/// A function whose arguments have changed although its id was fixed.
#[rpc_parallel::worker]
trait Before {
    #[worker(id = "errors.measure")]
    async fn measure(&self, text: &str, unit: u8) -> usize;
}

/// And how it is called now.
#[rpc_parallel::worker]
trait After {
    #[worker(id = "errors.measure")]
    async fn measure(&self, sizes: Vec<(u8, u8)>, unit: u8) -> String;
}

#[derive(Default, WorkerState)]
struct Meter;

#[rpc_parallel::worker]
impl Before for Meter {
    async fn measure(&self, text: &str, unit: u8) -> usize {
        text.len() / usize::from(unit)
    }
}

#[rpc_parallel::test]
async fn a_message_of_another_version_is_an_error_and_not_a_guess() {
    let before = Meter::spawn(()).await.expect("start a worker");
    let after = AfterClient::from_client(before.client().clone());

    let refused = kind(after.measure(vec![(1, 2)], 3).timeout(PATIENCE).await);

    let CallErrorKind::Undecodable { side: MessageKind::Arguments, why } = refused else {
        panic!("{refused}")
    };
    assert!(why.contains("alloc::string::String"), "{why}");
    assert_eq!(before.measure("abcd", 2).await, Ok(2));
}

#[rpc_parallel::test]
async fn a_master_goes_on_with_other_workers_after_deaths() {
    let (fragile, sturdy) = join!(start(), start());

    for _ in 0..3 {
        let fragile = start().await;
        kind(fragile.die(Ending::Abort).await);
    }
    kind(fragile.die(Ending::Segfault).await);

    assert_eq!(sturdy.take(b"abc").await, Ok(3));
    assert_eq!(start().await.take(b"abc").timeout(Duration::from_secs(10)).await, Ok(3));
}
