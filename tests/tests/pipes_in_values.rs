//! Pipes inside other values: however serde encodes the types around a pipe, the reader gets each
//! pipe exactly once.

use std::collections::BTreeMap;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::endless_numbers;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};

/// Functions with values that hold pipes.
#[rpc_parallel::worker]
trait PipesInValues {
    fn everywhere(&self, count: u64) -> Everywhere;
    fn untagged(&self, variant: Variant, count: u64) -> Untagged;
    fn fail_with_pipe(&self, count: u64) -> Result<u64, PartialResult>;
    fn flattened(&self, count: u64) -> Flattened;
    async fn lengths(&self, pipes: Everywhere) -> Vec<usize>;
    async fn length(&self, value: Untagged) -> (Variant, usize);
    #[worker(id = "pipes_in_values.number")]
    fn number_and_pipe(&self) -> NumberAndPipe;
    async fn wait_for(&self, event: &str);
}

/// A pipe in every position that a value can have.
#[derive(Debug, Serialize, Deserialize)]
struct Everywhere {
    field: Pipe<u64>,
    tuple: (u8, Pipe<u64>),
    list: Vec<Pipe<u64>>,
    map: BTreeMap<String, Pipe<u64>>,
    some: Option<Pipe<u64>>,
    none: Option<Pipe<u64>>,
    boxed: Box<Pipe<u64>>,
    variant: Tagged,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Empty,
    Full { pipe: Pipe<u64> },
}

/// Names a variant of [`Untagged`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Variant {
    Counted,
    Named,
    Bare,
    Number,
}

/// Variants that serde distinguishes by decoding them one after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Counted { pipe: Pipe<u64>, count: u64 },
    Named { pipe: Pipe<u64>, name: String },
    Bare(Pipe<u64>),
    Number(u64),
}

/// An error that holds a pipe.
#[derive(Debug, Serialize, Deserialize)]
struct PartialResult {
    why: String,
    numbers: Pipe<u64>,
}

/// Fields that serde buffers before it decodes the inner struct.
#[derive(Debug, Serialize, Deserialize)]
struct Flattened {
    before: u8,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    pipe: Pipe<u64>,
    after: u8,
}

#[derive(Debug, Serialize, Deserialize)]
struct NumberAndPipe {
    number: u64,
    pipe: Pipe<u64>,
}

/// The same function, declared with a result type that ignores the pipe.
#[rpc_parallel::worker]
trait Numbers {
    #[worker(id = "pipes_in_values.number")]
    fn number(&self) -> Number;
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Number {
    number: u64,
}

#[derive(Default, WorkerState)]
struct PipesInValuesWorker {
    events: Events,
}

fn numbers(count: u64) -> Pipe<u64> {
    Pipe::from_items(0..count)
}

impl Everywhere {
    fn new(count: u64) -> Self {
        Self {
            field: numbers(count),
            tuple: (7, numbers(count + 1)),
            list: vec![numbers(count + 2), numbers(count + 3)],
            map: BTreeMap::from([("a".into(), numbers(count + 4))]),
            some: Some(numbers(count + 5)),
            none: None,
            boxed: Box::new(numbers(count + 6)),
            variant: Tagged::Full { pipe: numbers(count + 7) },
        }
    }

    /// Reads all pipes, and returns how many elements each has.
    async fn lengths(self) -> Vec<usize> {
        let Self { field, tuple, list, map, some, none, boxed, variant } = self;
        let variant = match variant {
            Tagged::Full { pipe } => Some(pipe),
            Tagged::Empty => None,
        };
        let pipes = [field, tuple.1].into_iter().chain(list).chain(map.into_values());
        let mut lengths = Vec::new();
        for pipe in pipes.chain(some).chain(none).chain([*boxed]).chain(variant) {
            lengths.push(elements(pipe).await.len());
        }
        lengths
    }
}

impl Untagged {
    fn new(variant: Variant, count: u64) -> Self {
        let pipe = numbers(count);
        match variant {
            Variant::Counted => Self::Counted { pipe, count },
            Variant::Named => Self::Named { pipe, name: "numbers".into() },
            Variant::Bare => Self::Bare(pipe),
            Variant::Number => Self::Number(count),
        }
    }

    /// Reads the pipe, and returns the variant and how many elements the pipe has.
    async fn length(self) -> (Variant, usize) {
        match self {
            Self::Counted { pipe, .. } => (Variant::Counted, elements(pipe).await.len()),
            Self::Named { pipe, .. } => (Variant::Named, elements(pipe).await.len()),
            Self::Bare(pipe) => (Variant::Bare, elements(pipe).await.len()),
            Self::Number(number) => (Variant::Number, number as usize),
        }
    }
}

#[rpc_parallel::worker]
impl PipesInValues for PipesInValuesWorker {
    fn everywhere(&self, count: u64) -> Everywhere {
        Everywhere::new(count)
    }

    fn untagged(&self, variant: Variant, count: u64) -> Untagged {
        Untagged::new(variant, count)
    }

    fn fail_with_pipe(&self, count: u64) -> Result<u64, PartialResult> {
        Err(PartialResult { why: "scripted error".into(), numbers: numbers(count) })
    }

    fn flattened(&self, count: u64) -> Flattened {
        Flattened { before: 1, inner: Inner { pipe: numbers(count), after: 2 } }
    }

    async fn lengths(&self, pipes: Everywhere) -> Vec<usize> {
        pipes.lengths().await
    }

    async fn length(&self, value: Untagged) -> (Variant, usize) {
        value.length().await
    }

    fn number_and_pipe(&self) -> NumberAndPipe {
        let pipe = endless_numbers(self.events.note_on_drop("pipe stopped"));
        NumberAndPipe { number: 7, pipe }
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

#[rpc_parallel::test]
async fn pipe_works_in_every_position_of_value() {
    let worker = PipesInValuesWorker::spawn_ok(()).await;

    let returned = worker.everywhere(10).await.expect("the call succeeds");
    let passed = worker.lengths(Everywhere::new(20)).await;

    assert_eq!(returned.lengths().await, (10..18).collect::<Vec<_>>());
    assert_eq!(passed, Ok((20..28).collect()));
}

#[rpc_parallel::test]
async fn pipe_survives_decoding_of_untagged_enum() {
    let worker = PipesInValuesWorker::spawn_ok(()).await;

    // A variant that serde tries first may take the pipe before its other fields fail to decode.
    let variants = [Variant::Counted, Variant::Named, Variant::Bare, Variant::Number];
    for (variant, count) in variants.into_iter().zip(3..) {
        let returned = worker.untagged(variant, count).await.expect("the call succeeds");
        let passed = worker.length(Untagged::new(variant, 2 * count)).await;

        assert_eq!(returned.length().await, (variant, count as usize));
        assert_eq!(passed, Ok((variant, 2 * count as usize)));
    }
}

#[rpc_parallel::test]
async fn pipe_survives_decoding_of_flattened_struct() {
    let worker = PipesInValuesWorker::spawn_ok(()).await;

    let Flattened { before, inner } = worker.flattened(3).await.expect("the call succeeds");

    assert_eq!((before, inner.after), (1, 2));
    assert_eq!(elements(inner.pipe).await, [0, 1, 2]);
}

#[rpc_parallel::test]
async fn pipe_in_error_of_function_is_read() {
    let worker = PipesInValuesWorker::spawn_ok(()).await;

    let failed = worker.fail_with_pipe(1000).await;

    let Err(FunctionError::Function(error)) = failed else { panic!("{failed:?}") };
    assert_eq!(error.why, "scripted error");
    assert!(elements(error.numbers).await.into_iter().eq(0..1000));
}

#[rpc_parallel::test]
async fn pipe_ignored_by_type_of_caller_stops_its_writer() {
    let worker = PipesInValuesWorker::spawn_ok(()).await;
    let numbers = NumbersClient::from_client(worker.client().clone());

    let number = numbers.number().await;

    assert_eq!(number, Ok(Number { number: 7 }));
    assert_eq!(soon(worker.wait_for("pipe stopped")).await, Ok(()));
}
