//! A call that fails takes its pipes with it: whoever is at their other ends learns of it.

use std::time::Duration;

use futures_util::FutureExt;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::waiting::{Events, read, soon};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Functions that take a pipe in each direction, and something that may keep the call from going.
#[rpc_parallel::worker]
trait Swaps {
    async fn swap(&self, from: Pipe<u64>, to: PipeWriter<u64>, value: Stubborn);
    async fn fail(&self, from: Pipe<u64>, to: PipeWriter<u64>) -> Result<(), AnyError>;
    fn give(&self, value: Stubborn) -> (Pipe<u64>, Stubborn);
    fn give_much(&self, size: usize) -> (Pipe<u64>, Vec<u8>);
    fn block(&self, way: WayThrough);
    async fn happened(&self, event: &str);
}

/// The functions of a later version.
#[rpc_parallel::worker]
trait LaterSwaps {
    async fn swap_again(&self, from: Pipe<u64>, to: PipeWriter<u64>);
}

/// A value that does not want to travel.
#[derive(Debug)]
struct Stubborn(u8);

const TRAVELS: Stubborn = Stubborn(0);
const NEVER_LEAVES: Stubborn = Stubborn(1);
const NEVER_ARRIVES: Stubborn = Stubborn(2);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self(1) => Err(ser::Error::custom("it stays here")),
            Self(number) => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            2 => Err(de::Error::custom("it is not wanted here")),
            number => Ok(Self(number)),
        }
    }
}

#[derive(Default, WorkerState)]
struct Swapper {
    events: Events,
}

impl Swapper {
    fn endless(&self) -> Pipe<u64> {
        let ended = self.events.note_at_end("ended");
        Pipe::from_items((0..).inspect(move |_| {
            let _ = &ended;
        }))
    }
}

#[rpc_parallel::worker]
impl Swaps for Swapper {
    async fn swap(&self, mut from: Pipe<u64>, to: PipeWriter<u64>, _: Stubborn) {
        while let Some(Ok(number)) = from.next().await {
            to.send(number).await.expect("somebody reads");
        }
    }

    async fn fail(&self, from: Pipe<u64>, to: PipeWriter<u64>) -> Result<(), AnyError> {
        drop((from, to));
        Err(AnyError::new("it does not want to"))
    }

    fn give(&self, value: Stubborn) -> (Pipe<u64>, Stubborn) {
        // What travelled to here may not travel back.
        (self.endless(), if value.0 == 3 { NEVER_LEAVES } else { NEVER_ARRIVES })
    }

    fn give_much(&self, size: usize) -> (Pipe<u64>, Vec<u8>) {
        (self.endless(), vec![7; size])
    }

    fn block(&self, way: WayThrough) {
        way.block();
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> SwapsClient {
    let settings = Settings::default().with_max_message_size(10_000);
    Swapper::spawner().settings(settings).spawn(()).await.expect("start a worker")
}

/// The ends of two pipes, of which the other ends go to a function.
struct Ends {
    to: PipeWriter<u64>,
    from: Pipe<u64>,
}

impl Ends {
    fn new() -> (Self, Pipe<u64>, PipeWriter<u64>) {
        let ((to, other_from), (other_to, from)) = (Pipe::pair(), Pipe::pair());
        (Self { to, from }, other_from, other_to)
    }

    /// Waits until both know of their end, and returns how the one that is read has ended.
    async fn end(self) -> Option<PipeErrorKind> {
        soon(self.to.closed()).await;
        assert!(self.to.send(1).await.is_err());
        let (elements, error) = read(self.from).await;
        assert_eq!(elements, []);
        error.map(|it| it.kind().clone())
    }
}

fn kind(result: Result<(), CallError>) -> CallErrorKind {
    result.expect_err("it fails").kind().clone()
}

#[rpc_parallel::test]
async fn a_function_swaps_unless_something_keeps_it() {
    let swapper = start().await;
    let (Ends { to, from }, other_from, other_to) = Ends::new();

    let mut swapping = swapper.swap(other_from, other_to, TRAVELS);
    assert!((&mut swapping).now_or_never().is_none());
    to.send(7).await.expect("it is read");
    drop(to);

    assert_eq!(soon(swapping).await, Ok(()));
    assert_eq!(read(from).await, (vec![7], None));
}

#[rpc_parallel::test]
async fn pipes_of_arguments_that_cannot_be_encoded_end() {
    let swapper = start().await;
    let (ends, from, to) = Ends::new();

    let failed = kind(swapper.swap(from, to, NEVER_LEAVES).await);

    assert!(
        matches!(failed, CallErrorKind::Unencodable { side: MessageKind::Arguments, .. }),
        "{failed}"
    );
    ends.end().await;
}

#[rpc_parallel::test]
async fn pipes_of_arguments_that_cannot_be_decoded_end_with_an_error() {
    let swapper = start().await;
    let (ends, from, to) = Ends::new();

    let failed = kind(swapper.swap(from, to, NEVER_ARRIVES).await);

    assert!(
        matches!(failed, CallErrorKind::Undecodable { side: MessageKind::Arguments, .. }),
        "{failed}"
    );
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn pipes_of_a_function_that_the_worker_lacks_end_with_an_error() {
    let swapper = start().await;
    let later = LaterSwapsClient::from_client(swapper.client().clone());
    let (ends, from, to) = Ends::new();

    let failed = kind(later.swap_again(from, to).await);

    assert!(matches!(failed, CallErrorKind::UnknownFunction { .. }), "{failed}");
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn pipes_of_a_call_that_was_dropped_before_it_began_end_with_an_error() {
    let swapper = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(swapper.block(gate.way()));
    let standing = soon(gate.reached()).await;
    let (ends, from, to) = Ends::new();

    let mut swapping = swapper.swap(from, to, TRAVELS);
    assert!((&mut swapping).now_or_never().is_none());
    drop(swapping);
    drop(standing);

    soon(blocking).await.expect("no panic").expect("call it");
    assert_eq!(ends.end().await, Some(PipeErrorKind::Cancelled));
}

#[rpc_parallel::test]
async fn pipes_of_a_call_that_was_too_late_to_begin_end_with_an_error() {
    let swapper = start().await;
    let gate = Gate::new();
    let blocking = tokio::spawn(swapper.block(gate.way()));
    let standing = soon(gate.reached()).await;
    let (ends, from, to) = Ends::new();

    let swapping = swapper.swap(from, to, TRAVELS).timeout(Duration::from_millis(20));
    let failed = kind(soon(swapping).await);
    drop(standing);

    soon(blocking).await.expect("no panic").expect("call it");
    assert!(matches!(failed, CallErrorKind::TimedOut { .. }), "{failed}");
    assert!(ends.end().await.is_some());
}

#[rpc_parallel::test]
async fn pipes_of_a_function_that_returns_an_error_just_end() {
    let swapper = start().await;
    let (ends, from, to) = Ends::new();

    let failed = swapper.fail(from, to).await;

    assert!(matches!(failed, Err(FunctionError::Function(_))), "{failed:?}");
    assert_eq!(ends.end().await, None);
}

#[rpc_parallel::test]
async fn a_pipe_of_a_result_that_cannot_be_encoded_tells_its_writer() {
    let swapper = start().await;

    let failed = swapper.give(Stubborn(3)).await.map(drop);

    let failed = kind(failed);
    assert!(
        matches!(failed, CallErrorKind::Unencodable { side: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(swapper.happened("ended")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_pipe_of_a_result_that_cannot_be_decoded_tells_its_writer() {
    let swapper = start().await;

    let failed = swapper.give(TRAVELS).await.map(drop);

    let failed = kind(failed);
    assert!(
        matches!(failed, CallErrorKind::Undecodable { side: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(swapper.happened("ended")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_pipe_of_a_result_that_is_too_large_tells_its_writer() {
    let swapper = start().await;

    let failed = swapper.give_much(20_000).await.map(drop);

    let failed = kind(failed);
    assert!(
        matches!(failed, CallErrorKind::TooLarge { side: MessageKind::Result, .. }),
        "{failed}"
    );
    assert_eq!(soon(swapper.happened("ended")).await, Ok(()));
}
