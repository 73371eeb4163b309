//! Random interleavings of all that can happen to a connection, against what must hold of each:
//! every call ends once, every element arrives once and in order or its stream fails, nothing
//! hangs, and nothing is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use super::{Connected, connected_with, settings, settle, soon};
use crate::connection::client::Client;
use crate::connection::scripted::{Functions, call, function};
use crate::connection::{
    CallError, CallErrorKind, CloseReason, Pipe, PipeErrorKind, PipeEvent, PipeWriter, TrySendError,
};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");
const NOTE: &FunctionInfo = &function("note").one_way();
/// Gives a pipe that is fed as planned.
const OUT: &FunctionInfo = &function("out");
/// Reads a pipe, and tells what it has seen.
const IN: &FunctionInfo = &function("in");
/// Feeds a writer as planned.
const WRITE: &FunctionInfo = &function("write");

/// What happens next.
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
    /// One of those that have begun is dropped.
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
    /// Its end is an error.
    fails: bool,
    /// Comes with its message, to make that large.
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

/// What a reader has seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Seen {
    elements: u32,
    end: End,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum End {
    Complete,
    Failed(PipeErrorKind),
    /// It has read as much as it wanted.
    Dropped,
    /// Out of order, or after the end.
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

    /// Makes the pipe that is sent, and feeds it.
    fn pipe(&self) -> Pipe<Vec<u8>> {
        if let (Feeding::Items, false) = (self.feeding, self.fails) {
            return Pipe::from_items(self.elements()).with_window(self.window);
        }
        let (writer, pipe) = Pipe::pair();
        tokio::spawn(self.clone().feed(writer));
        pipe.with_window(self.window)
    }

    /// Writes everything, unless nobody reads it.
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

    /// Says whether a reader may have seen this.
    fn allows(&self, seen: &Seen, reading: Reading, broken: bool) -> bool {
        let all = seen.elements == self.elements;
        match (&seen.end, reading) {
            (End::Complete, _) => all && !self.fails,
            (End::Failed(PipeErrorKind::WriterFailed { .. }), _) => all && self.fails,
            (End::Failed(PipeErrorKind::ConnectionLost { .. }), _)
            | (End::Failed(PipeErrorKind::ConnectionClosed), _)
            // Its call was never sent.
            | (End::Failed(PipeErrorKind::Cancelled), _) => broken,
            (End::Dropped, Reading::Some(wanted)) => seen.elements == wanted,
            (End::Dropped, Reading::AbortedCallback(wanted)) => seen.elements >= wanted,
            (End::Dropped | End::Failed(_) | End::Wrong, _) => false,
        }
    }
}

impl Reading {
    async fn read(self, mut pipe: Pipe<Vec<u8>>) -> Seen {
        let wanted = match self {
            Self::All => u32::MAX,
            Self::Some(wanted) => wanted,
            Self::Callback => return by_callback(pipe, None).await,
            Self::AbortedCallback(wanted) => return by_callback(pipe, Some(wanted)).await,
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
            return Seen { elements, end };
        }
        Seen { elements, end: End::Dropped }
    }
}

/// Reads a pipe by a callback, and aborts it when so many elements have come.
async fn by_callback(pipe: Pipe<Vec<u8>>, wanted: Option<u32>) -> Seen {
    let (seeing, mut seen) = watch::channel((0, None));
    let handle = pipe.for_each_direct(move |it| {
        seeing.send_modify(|(elements, end)| match it {
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
        let enough = seen.wait_for(|(elements, end)| *elements >= wanted || end.is_some());
        enough.await.expect("the callback has seen an end");
        handle.abort();
    }
    seen.wait_for(|(_, end)| end.is_some()).await.expect("the callback has seen an end");
    // Whatever else it sees is wrong; it is dropped then.
    let _ = seen.wait_for(|(_, end)| *end == Some(End::Wrong)).await;
    let (elements, end) = seen.borrow().clone();
    Seen { elements, end: end.unwrap_or(End::Wrong) }
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
            notes.lock().expect("nobody panics").push(number);
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

/// A run of the model.
struct Run {
    connected: Connected,
    /// The connection has been closed or has lost its worker.
    broken: Arc<AtomicBool>,
    begun: Vec<JoinHandle<()>>,
    notes: Notes,
    noted: Arc<Mutex<Vec<u64>>>,
}

impl Run {
    async fn step(&mut self, step: Step) {
        let client = self.connected.client.clone();
        let broken = self.broken.clone();
        match step {
            Step::Echo { millis, size } => self.begin(echo(client, broken, millis, size)),
            Step::Note { size } => {
                let number = self.begun.len() as u64;
                let note = call::<_, ()>(&client, NOTE, (number, vec![7_u8; size]));
                let noted = self.noted.clone();
                self.begin(async move {
                    if allowed(&note.await, &broken) {
                        noted.lock().expect("nobody panics").push(number);
                    }
                });
            }
            Step::Out { plan, reading } => self.begin(read_out(client, broken, plan, reading)),
            Step::In { plan, reading, ballast } => {
                self.begin(give_in(client, broken, plan, reading, ballast));
            }
            Step::Write { plan, reading } => {
                self.begin(let_write(client, broken, plan, reading));
            }
            Step::Cancel { which } => {
                if !self.begun.is_empty() {
                    which.get(&self.begun).abort();
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

    fn begin(&mut self, what: impl Future<Output = ()> + Send + 'static) {
        self.begun.push(tokio::spawn(what));
    }

    async fn finish(self) {
        let Self { connected, broken, begun, notes, noted } = self;
        for begun in begun {
            match soon("a call or its pipes", begun).await {
                Ok(()) => {}
                Err(error) if error.is_cancelled() => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        sleep(Duration::from_secs(10)).await;
        settle().await;
        connected.assert_no_streams();
        assert_eq!(connected.there.traffic().counts().calls_in_flight, 0);
        let notes = notes.lock().expect("nobody panics").clone();
        assert!(notes.is_sorted_by(|one, next| one < next), "out of order: {notes:?}");
        if !broken.load(Ordering::Relaxed) {
            let noted = noted.lock().expect("nobody panics").clone();
            assert!(noted.iter().all(|it| notes.contains(it)), "{noted:?} of {notes:?}");
            assert!(!connected.client.is_closed());
        }
        drop(connected.client);
        match soon("the worker", connected.worker).await {
            Ok(ended) => ended.expect("the client follows the rules"),
            Err(error) => assert!(error.is_cancelled(), "the driver does not panic"),
        }
    }
}

/// Says whether a call was answered; it may only fail when the connection is broken.
#[track_caller]
fn allowed<T>(result: &Result<T, CallError>, broken: &AtomicBool) -> bool {
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
    if allowed(&echoed, &broken) {
        assert_eq!(echoed.expect("it is allowed"), bytes);
    }
}

async fn read_out(client: Client, broken: Arc<AtomicBool>, plan: Plan, reading: Reading) {
    let called = call::<_, (Vec<u8>, Pipe<Vec<u8>>)>(&client, OUT, plan.clone()).await;
    drop(client);
    if !allowed(&called, &broken) {
        return;
    }
    let (ballast, pipe) = called.expect("it is allowed");
    assert_eq!(ballast.len(), plan.ballast);
    assert_seen(&plan, &reading.read(pipe).await, reading, &broken);
}

async fn give_in(
    client: Client,
    broken: Arc<AtomicBool>,
    plan: Plan,
    reading: Reading,
    ballast: usize,
) {
    let arguments = (reading, plan.pipe(), vec![7_u8; ballast]);
    let seen = call::<_, Seen>(&client, IN, arguments).await;
    if allowed(&seen, &broken) {
        assert_seen(&plan, &seen.expect("it is allowed"), reading, &broken);
    }
}

async fn let_write(client: Client, broken: Arc<AtomicBool>, plan: Plan, reading: Reading) {
    let (writer, pipe) = Pipe::pair();
    let arguments = (plan.clone(), writer.with_window(plan.window));
    let called = call::<_, Vec<u8>>(&client, WRITE, arguments);
    let (seen, called) = tokio::join!(reading.read(pipe), called);
    assert_seen(&plan, &seen, reading, &broken);
    allowed(&called, &broken);
}

#[track_caller]
fn assert_seen(plan: &Plan, seen: &Seen, reading: Reading, broken: &AtomicBool) {
    let broken = broken.load(Ordering::Relaxed);
    assert!(plan.allows(seen, reading, broken), "{seen:?} by {reading:?} of {plan:?}");
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
            // Enough of large ones is soon too much.
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
        .expect("a runtime can be made");
    runtime.block_on(async {
        let notes = Notes::default();
        let settings = settings().with_stream_window(window);
        let functions = functions(notes.clone());
        let connected = soon("the welcome", connected_with(capacity, settings, functions)).await;
        let (broken, begun, noted) = (Arc::default(), Vec::new(), Arc::default());
        let mut run = Run { connected, broken, begun, notes, noted };
        for step in steps {
            run.step(step).await;
        }
        run.finish().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_happens_ends_once_and_in_order(
        capacity in prop_oneof![1_usize..200, 200_usize..200_000],
        window in 1_usize..1000,
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        run(capacity, window, steps);
    }
}
