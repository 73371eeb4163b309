//! Random interleavings of everything that can happen to a connection. In each of them every call
//! ends once, every element arrives once and in order or its stream fails, nothing hangs, and no
//! stream stays open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use super::{Connected, connected_with, lock, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{
    CallError, CallErrorKind, CloseReason, Pipe, PipeErrorKind, PipeEvent, PipeWriter, TrySendError,
};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");
const NOTE: &FunctionInfo = &function("note").one_way();
/// Returns a pipe that a plan feeds.
const OUT: &FunctionInfo = &function("out");
/// Reads a pipe, and returns an `Outcome`.
const IN: &FunctionInfo = &function("in");
/// Feeds a writer by a plan.
const WRITE: &FunctionInfo = &function("write");

/// One step of an interleaving.
#[derive(Clone, Debug)]
enum Step {
    Echo {
        millis: u64,
        size: usize,
    },
    Note {
        size: usize,
    },
    Out {
        plan: Plan,
        reading: Reading,
    },
    In {
        plan: Plan,
        reading: Reading,
        ballast: usize,
    },
    Write {
        plan: Plan,
        reading: Reading,
    },
    /// Drops one of the calls that have been started.
    Cancel {
        which: prop::sample::Index,
    },
    Yield {
        times: usize,
    },
    Sleep {
        millis: u64,
    },
    Close,
    Kill,
}

/// How a stream is fed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    elements: u32,
    size: usize,
    window: usize,
    feeding: Feeding,
    /// The writer ends the stream with an error.
    fails: bool,
    /// Further bytes in the message that opens the stream.
    ballast: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Feeding {
    Items,
    Send,
    SendAll,
    TrySend,
}

/// How far a stream is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Reading {
    All,
    Some(u32),
    Callback,
    AbortedCallback(u32),
}

/// What a reader has read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Outcome {
    elements: u32,
    end: End,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum End {
    Complete,
    Failed(PipeErrorKind),
    /// The reader has dropped the pipe after the wanted number of elements.
    Dropped,
    /// An element was out of order, or an event followed the end.
    Wrong,
}

fn element(number: u32, size: usize) -> Vec<u8> {
    let mut element = number.to_le_bytes().to_vec();
    element.resize(4 + size, 7);
    element
}

fn is_element(element: &[u8], number: u32) -> bool {
    element.starts_with(&number.to_le_bytes())
}

impl Plan {
    fn elements(&self) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
        let size = self.size;
        (0..self.elements).map(move |it| element(it, size))
    }

    /// Returns a pipe to send, which this plan feeds.
    fn pipe(&self) -> Pipe<Vec<u8>> {
        if let (Feeding::Items, false) = (self.feeding, self.fails) {
            return Pipe::from_items(self.elements()).with_window(self.window);
        }
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(self.clone().feed(writer));
        pipe.with_window(self.window)
    }

    /// Writes all elements, unless the reader is gone.
    async fn feed(self, writer: PipeWriter<Vec<u8>>) {
        match self.feeding {
            Feeding::Items | Feeding::SendAll => {
                if writer.send_all(self.elements()).await.is_err() {
                    return;
                }
            }
            Feeding::Send => {
                for element in self.elements() {
                    if writer.send(element).await.is_err() {
                        return;
                    }
                }
            }
            Feeding::TrySend => {
                for mut element in self.elements() {
                    loop {
                        match writer.try_send(element) {
                            Ok(()) => break,
                            Err(TrySendError::Full(it)) => element = it,
                            Err(TrySendError::Failed(_)) => return,
                        }
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        }
        if self.fails {
            writer.fail("as planned");
        }
    }

    /// Returns whether a reader may have this outcome.
    fn allows(&self, outcome: &Outcome, reading: Reading, broken: bool) -> bool {
        let all = outcome.elements == self.elements;
        match (&outcome.end, reading) {
            (End::Complete, _) => all && !self.fails,
            (End::Failed(PipeErrorKind::WriterFailed { .. }), _) => all && self.fails,
            (End::Failed(PipeErrorKind::ConnectionLost { .. }), _)
            | (End::Failed(PipeErrorKind::ConnectionClosed), _)
            // The call that opens the stream was never sent.
            | (End::Failed(PipeErrorKind::Cancelled), _) => broken,
            (End::Dropped, Reading::Some(wanted)) => outcome.elements == wanted,
            (End::Dropped, Reading::AbortedCallback(wanted)) => outcome.elements >= wanted,
            (End::Dropped | End::Failed(_) | End::Wrong, _) => false,
        }
    }
}

impl Reading {
    async fn read(self, mut pipe: Pipe<Vec<u8>>) -> Outcome {
        let wanted = match self {
            Self::All => u32::MAX,
            Self::Some(wanted) => wanted,
            Self::Callback => return read_by_callback(pipe, None).await,
            Self::AbortedCallback(wanted) => return read_by_callback(pipe, Some(wanted)).await,
        };
        let mut elements = 0;
        while elements < wanted {
            let end = match pipe.next().await {
                Some(Ok(element)) if is_element(&element, elements) => {
                    elements += 1;
                    continue;
                }
                Some(Ok(_)) => End::Wrong,
                Some(Err(error)) => End::Failed(error.kind().clone()),
                None => End::Complete,
            };
            return Outcome { elements, end };
        }
        Outcome { elements, end: End::Dropped }
    }
}

/// Reads a pipe by a callback, and aborts it after `wanted` elements, if given.
async fn read_by_callback(pipe: Pipe<Vec<u8>>, wanted: Option<u32>) -> Outcome {
    let (sender, mut received) = watch::channel((0, None));
    let handle = pipe.for_each_direct(move |event| {
        sender.send_modify(|(elements, end)| match event {
            _ if end.is_some() => *end = Some(End::Wrong),
            PipeEvent::Element(element) if is_element(&element, *elements) => *elements += 1,
            PipeEvent::Element(_) => *end = Some(End::Wrong),
            PipeEvent::Closed(CloseReason::ByWriter) => *end = Some(End::Complete),
            PipeEvent::Closed(CloseReason::ByAbort) => *end = Some(End::Dropped),
            PipeEvent::Closed(CloseReason::Error(error)) => {
                *end = Some(End::Failed(error.kind().clone()));
            }
        });
    });
    if let Some(wanted) = wanted {
        let enough = received.wait_for(|(elements, end)| *elements >= wanted || end.is_some());
        enough.await.expect("the callback receives an end before it is dropped");
        handle.abort();
    }
    let ended = received.wait_for(|(_, end)| end.is_some()).await;
    ended.expect("the callback receives an end before it is dropped");
    // Waits until the callback is dropped: an event after the end is wrong.
    let _ = received.wait_for(|(_, end)| *end == Some(End::Wrong)).await;
    let (elements, end) = received.borrow().clone();
    Outcome { elements, end: end.unwrap_or(End::Wrong) }
}

type Notes = Arc<Mutex<Vec<u64>>>;

fn functions(notes: Notes) -> Functions {
    Functions::default()
        .with(ECHO, async |(millis, bytes): (u64, Vec<u8>)| {
            if millis > 0 {
                sleep(Duration::from_millis(millis)).await;
            }
            bytes
        })
        .with(NOTE, move |(number, _): (u64, Vec<u8>)| {
            lock(&notes).push(number);
            async {}
        })
        .with(OUT, async |plan: Plan| (vec![7_u8; plan.ballast], plan.pipe()))
        .with(IN, async |(reading, pipe, _): (Reading, Pipe<Vec<u8>>, Vec<u8>)| {
            reading.read(pipe).await
        })
        .with(WRITE, async |(plan, writer): (Plan, PipeWriter<Vec<u8>>)| {
            let ballast = vec![7_u8; plan.ballast];
            plan.feed(writer).await;
            ballast
        })
}

/// One interleaving in progress.
struct Run {
    connected: Connected,
    /// The client has been closed, or the worker's driver has been aborted.
    broken: Arc<AtomicBool>,
    started: Vec<JoinHandle<()>>,
    /// The one-way calls that the worker has run.
    notes: Notes,
    /// The one-way calls that were sent.
    sent_notes: Notes,
}

impl Run {
    async fn step(&mut self, step: Step) {
        let client = self.connected.client.clone();
        let broken = self.broken.clone();
        match step {
            Step::Echo { millis, size } => self.start(echo(client, broken, millis, size)),
            Step::Note { size } => {
                let number = self.started.len() as u64;
                let note = call::<_, ()>(&client, NOTE, (number, vec![7_u8; size]));
                let sent_notes = self.sent_notes.clone();
                self.start(async move {
                    if succeeded(&note.await, &broken) {
                        lock(&sent_notes).push(number);
                    }
                });
            }
            Step::Out { plan, reading } => self.start(call_out(client, broken, plan, reading)),
            Step::In { plan, reading, ballast } => {
                self.start(call_in(client, broken, plan, reading, ballast));
            }
            Step::Write { plan, reading } => {
                self.start(call_write(client, broken, plan, reading));
            }
            Step::Cancel { which } => {
                if !self.started.is_empty() {
                    which.get(&self.started).abort();
                }
            }
            Step::Yield { times } => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
            Step::Sleep { millis } => sleep(Duration::from_millis(millis)).await,
            Step::Close => {
                self.broken.store(true, Ordering::Relaxed);
                self.connected.client.close();
            }
            Step::Kill => {
                self.broken.store(true, Ordering::Relaxed);
                self.connected.worker.abort();
            }
        }
    }

    fn start(&mut self, call: impl Future<Output = ()> + Send + 'static) {
        self.started.push(tokio::spawn(call));
    }

    /// Asserts that everything ends, and that the invariants hold.
    async fn finish(self) {
        let Self { connected, broken, started, notes, sent_notes } = self;
        for call in started {
            match soon("a call or its pipes", call).await {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        sleep(Duration::from_secs(10)).await;
        settle().await;
        connected.assert_no_open_streams();
        assert_eq!(connected.worker_connection.traffic().counts().calls_in_flight, 0);
        let notes = lock(&notes).clone();
        assert!(notes.is_sorted_by(|one, next| one < next), "out of order: {notes:?}");
        if !broken.load(Ordering::Relaxed) {
            let sent = lock(&sent_notes).clone();
            assert!(sent.iter().all(|it| notes.contains(it)), "{sent:?} sent, {notes:?} run");
            assert!(!connected.client.is_closed());
        }
        drop(connected.client);
        match soon("the worker", connected.worker).await {
            Ok(ended) => ended.expect("the client does not violate the protocol"),
            Err(error) => assert!(error.is_cancelled(), "the driver does not panic"),
        }
    }
}

/// Returns whether a call succeeded; panics if it failed although the connection is not broken.
#[track_caller]
fn succeeded<T>(result: &Result<T, CallError>, broken: &AtomicBool) -> bool {
    let Err(error) = result else { return true };
    let lost = matches!(
        error.kind(),
        CallErrorKind::ConnectionLost { .. } | CallErrorKind::ConnectionClosed
    );
    assert!(lost && broken.load(Ordering::Relaxed), "{error}");
    false
}

async fn echo(client: Client, broken: Arc<AtomicBool>, millis: u64, size: usize) {
    let bytes = vec![7_u8; size];
    let echoed = call::<_, Vec<u8>>(&client, ECHO, (millis, bytes.clone()));
    drop(client);
    let echoed = echoed.await;
    if succeeded(&echoed, &broken) {
        assert_eq!(echoed.expect("the call has succeeded"), bytes);
    }
}

async fn call_out(client: Client, broken: Arc<AtomicBool>, plan: Plan, reading: Reading) {
    let called = call::<_, (Vec<u8>, Pipe<Vec<u8>>)>(&client, OUT, plan.clone()).await;
    drop(client);
    if !succeeded(&called, &broken) {
        return;
    }
    let (ballast, pipe) = called.expect("the call has succeeded");
    assert_eq!(ballast.len(), plan.ballast);
    assert_outcome(&plan, &reading.read(pipe).await, reading, &broken);
}

async fn call_in(
    client: Client,
    broken: Arc<AtomicBool>,
    plan: Plan,
    reading: Reading,
    ballast: usize,
) {
    let arguments = (reading, plan.pipe(), vec![7_u8; ballast]);
    let outcome = call::<_, Outcome>(&client, IN, arguments).await;
    if succeeded(&outcome, &broken) {
        assert_outcome(&plan, &outcome.expect("the call has succeeded"), reading, &broken);
    }
}

async fn call_write(client: Client, broken: Arc<AtomicBool>, plan: Plan, reading: Reading) {
    let (writer, pipe) = Pipe::pair();
    let arguments = (plan.clone(), writer.with_window(plan.window));
    let called = call::<_, Vec<u8>>(&client, WRITE, arguments);
    let (outcome, called) = tokio::join!(reading.read(pipe), called);
    assert_outcome(&plan, &outcome, reading, &broken);
    succeeded(&called, &broken);
}

#[track_caller]
fn assert_outcome(plan: &Plan, outcome: &Outcome, reading: Reading, broken: &AtomicBool) {
    let broken = broken.load(Ordering::Relaxed);
    assert!(plan.allows(outcome, reading, broken), "{outcome:?} by {reading:?} of {plan:?}");
}

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 0_usize..60, 4 => 60_usize..3000, 1 => 60_000_usize..90_000]
}

fn any_ballast() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(0_usize), 1 => 60_000_usize..150_000]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let feeding = prop_oneof![
        Just(Feeding::Items),
        Just(Feeding::Send),
        Just(Feeding::SendAll),
        Just(Feeding::TrySend)
    ];
    let window = prop_oneof![1_usize..3, 1_usize..500, 500_usize..100_000];
    let fails = prop::bool::weighted(0.2);
    let elements = prop_oneof![4 => 0_u32..8, 1 => 0_u32..100];
    (elements, any_size(), window, feeding, fails, any_ballast()).prop_map(
        |(elements, size, window, feeding, fails, ballast)| {
            // Bounds the memory and time of one case.
            let elements = if size > 3000 { elements.min(5) } else { elements };
            Plan { elements, size, window, feeding, fails, ballast }
        },
    )
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        3 => Just(Reading::All),
        2 => (0_u32..10).prop_map(Reading::Some),
        1 => Just(Reading::Callback),
        1 => (0_u32..10).prop_map(Reading::AbortedCallback),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let small = 0_usize..100;
    let size = prop_oneof![6 => small, 1 => 60_000_usize..200_000];
    let millis = prop_oneof![Just(0_u64), 0_u64..100];
    prop_oneof![
        20 => (millis, size.clone()).prop_map(|(millis, size)| Step::Echo { millis, size }),
        10 => size.prop_map(|size| Step::Note { size }),
        20 => (any_plan(), any_reading()).prop_map(|(plan, reading)| Step::Out { plan, reading }),
        20 => (any_plan(), any_reading(), any_ballast())
            .prop_map(|(plan, reading, ballast)| Step::In { plan, reading, ballast }),
        20 => (any_plan(), any_reading())
            .prop_map(|(plan, reading)| Step::Write { plan, reading }),
        20 => any::<prop::sample::Index>().prop_map(|which| Step::Cancel { which }),
        20 => (0_usize..40).prop_map(|times| Step::Yield { times }),
        10 => (0_u64..100).prop_map(|millis| Step::Sleep { millis }),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

fn run(capacity: usize, window: usize, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let notes = Notes::default();
        let settings = settings().with_stream_window(window);
        let functions = functions(notes.clone());
        let connected = connected_with(capacity, settings, functions);
        let connected = soon("the connection", connected).await;
        let (broken, started, sent_notes) = (Arc::default(), Vec::new(), Notes::default());
        let mut run = Run { connected, broken, started, notes, sent_notes };
        for step in steps {
            run.step(step).await;
        }
        run.finish().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn random_interleavings_end_every_call_and_stream_once(
        capacity in prop_oneof![1_usize..200, 200_usize..200_000],
        window in 1_usize..1000,
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        run(capacity, window, steps);
    }
}
