//! Pipes inside of other values: whatever serde makes of their types, each pipe is there once.

use std::collections::BTreeMap;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::{Events, elements, soon};
use serde::{Deserialize, Serialize};

/// Results that hold pipes.
#[rpc_parallel::worker]
trait Holders {
    fn everywhere(&self, to: u64) -> Everywhere;
    fn found(&self, what: What, to: u64) -> Found;
    fn partial(&self, to: u64) -> Result<u64, Partial>;
    fn flattened(&self, to: u64) -> Flattened;
    async fn lengths(&self, held: Everywhere) -> Vec<usize>;
    async fn length(&self, found: Found) -> (What, usize);
    #[worker(id = "pipes_in_values.held")]
    fn held(&self) -> Held;
    async fn happened(&self, event: &str);
}

/// A pipe wherever a value can stand.
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

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum What {
    Counted,
    Named,
    Bare,
    Number,
}

/// Variants that serde tells apart by trying one after the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Found {
    Counted { pipe: Pipe<u64>, count: u64 },
    Named { pipe: Pipe<u64>, name: String },
    Bare(Pipe<u64>),
    Number(u64),
}

/// What there was before it went wrong.
#[derive(Debug, Serialize, Deserialize)]
struct Partial {
    why: String,
    read: Pipe<u64>,
}

/// Fields that serde gathers before it gives them to their structs.
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
struct Held {
    number: u64,
    pipe: Pipe<u64>,
}

/// The same function as those see it who do not know that there is a pipe.
#[rpc_parallel::worker]
trait Numbers {
    #[worker(id = "pipes_in_values.held")]
    fn held(&self) -> Number;
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Number {
    number: u64,
}

#[derive(Default, WorkerState)]
struct Holder {
    events: Events,
}

fn count(to: u64) -> Pipe<u64> {
    Pipe::from_items(0..to)
}

impl Everywhere {
    fn new(to: u64) -> Self {
        Self {
            field: count(to),
            tuple: (7, count(to + 1)),
            list: vec![count(to + 2), count(to + 3)],
            map: BTreeMap::from([("a".into(), count(to + 4))]),
            some: Some(count(to + 5)),
            none: None,
            boxed: Box::new(count(to + 6)),
            variant: Tagged::Full { pipe: count(to + 7) },
        }
    }

    /// Reads all of them.
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

impl Found {
    fn new(what: What, to: u64) -> Self {
        let pipe = count(to);
        match what {
            What::Counted => Self::Counted { pipe, count: to },
            What::Named => Self::Named { pipe, name: "numbers".into() },
            What::Bare => Self::Bare(pipe),
            What::Number => Self::Number(to),
        }
    }

    /// Reads it, and says what it was.
    async fn length(self) -> (What, usize) {
        match self {
            Self::Counted { pipe, .. } => (What::Counted, elements(pipe).await.len()),
            Self::Named { pipe, .. } => (What::Named, elements(pipe).await.len()),
            Self::Bare(pipe) => (What::Bare, elements(pipe).await.len()),
            Self::Number(number) => (What::Number, number as usize),
        }
    }
}

#[rpc_parallel::worker]
impl Holders for Holder {
    fn everywhere(&self, to: u64) -> Everywhere {
        Everywhere::new(to)
    }

    fn found(&self, what: What, to: u64) -> Found {
        Found::new(what, to)
    }

    fn partial(&self, to: u64) -> Result<u64, Partial> {
        Err(Partial { why: "there is no more".into(), read: count(to) })
    }

    fn flattened(&self, to: u64) -> Flattened {
        Flattened { before: 1, inner: Inner { pipe: count(to), after: 2 } }
    }

    async fn lengths(&self, held: Everywhere) -> Vec<usize> {
        held.lengths().await
    }

    async fn length(&self, found: Found) -> (What, usize) {
        found.length().await
    }

    fn held(&self) -> Held {
        let ended = self.events.note_at_end("ended");
        let pipe = Pipe::from_items((0..).inspect(move |_| {
            let _ = &ended;
        }));
        Held { number: 7, pipe }
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> HoldersClient {
    Holder::spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn a_pipe_stands_wherever_a_value_can_stand() {
    let holder = start().await;

    let returned = holder.everywhere(10).await.expect("call it");
    let passed = holder.lengths(Everywhere::new(20)).await;

    assert_eq!(returned.lengths().await, (10..18).collect::<Vec<_>>());
    assert_eq!(passed, Ok((20..28).collect()));
}

#[rpc_parallel::test]
async fn a_pipe_is_still_there_when_its_type_is_decoded_by_trying() {
    let holder = start().await;

    // What is tried first may take the pipe before it turns out to be something else.
    for (what, to) in [What::Counted, What::Named, What::Bare, What::Number].into_iter().zip(3..) {
        let returned = holder.found(what, to).await.expect("call it");
        let passed = holder.length(Found::new(what, 2 * to)).await;

        assert_eq!(returned.length().await, (what, to as usize));
        assert_eq!(passed, Ok((what, 2 * to as usize)));
    }
}

#[rpc_parallel::test]
async fn a_pipe_is_still_there_when_serde_gathers_its_fields_first() {
    let holder = start().await;

    let Flattened { before, inner } = holder.flattened(3).await.expect("call it");

    assert_eq!((before, inner.after), (1, 2));
    assert_eq!(elements(inner.pipe).await, [0, 1, 2]);
}

#[rpc_parallel::test]
async fn a_pipe_in_an_error_is_read_like_others() {
    let holder = start().await;

    let failed = holder.partial(1000).await;

    let Err(FunctionError::Function(partial)) = failed else { panic!("{failed:?}") };
    assert_eq!(partial.why, "there is no more");
    assert!(elements(partial.read).await.into_iter().eq(0..1000));
}

#[rpc_parallel::test]
async fn a_pipe_that_the_type_of_its_reader_leaves_out_tells_its_writer() {
    let holder = start().await;
    let numbers = NumbersClient::from_client(holder.client().clone());

    let number = numbers.held().await;

    assert_eq!(number, Ok(Number { number: 7 }));
    assert_eq!(soon(holder.happened("ended")).await, Ok(()));
}
