//! Where a pipe can go: from worker to worker, either half of it, once; and where it cannot.

use futures_util::FutureExt;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel::{Settings, Spawner};
use rpc_parallel_tests::process::{ends, kill};
use rpc_parallel_tests::waiting::{Events, elements, read, soon};
use tokio::join;

/// Stations on the way of a pipe.
#[rpc_parallel::worker]
trait Stations {
    fn count(&self, to: u64) -> Pipe<u64>;
    fn endless(&self) -> Pipe<u64>;
    fn pipes(&self) -> Pipe<Pipe<u64>>;
    async fn total(&self, numbers: Pipe<u64>) -> Result<u64, AnyError>;
    /// Says how many elements came, and what was wrong.
    async fn fate(&self, numbers: Pipe<u64>) -> (usize, Option<String>);
    fn pass(&self, numbers: Pipe<u64>) -> Pipe<u64>;
    async fn pass_on(&self, numbers: Pipe<u64>, to: Worker<Station>) -> Result<u64, AnyError>;
    async fn write(&self, writer: PipeWriter<u64>, from: u64, to: u64) -> Result<(), AnyError>;
    async fn let_write(&self, writer: PipeWriter<u64>, to: Worker<Station>)
    -> Result<(), AnyError>;
    async fn happened(&self, event: &str);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Station {
    events: Events,
}

#[rpc_parallel::worker]
impl Stations for Station {
    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    fn endless(&self) -> Pipe<u64> {
        let ended = self.events.note_at_end("endless ended");
        Pipe::from_items((0..).inspect(move |_| {
            let _ = &ended;
        }))
    }

    fn pipes(&self) -> Pipe<Pipe<u64>> {
        Pipe::from_items((0..3).map(|it| Pipe::from_items(0..it)))
    }

    async fn total(&self, mut numbers: Pipe<u64>) -> Result<u64, AnyError> {
        let mut total = 0;
        while let Some(number) = numbers.next().await {
            total += number?;
        }
        Ok(total)
    }

    async fn fate(&self, numbers: Pipe<u64>) -> (usize, Option<String>) {
        self.events.note("fate");
        let (elements, error) = read(numbers).await;
        (elements.len(), error.map(|it| it.to_string()))
    }

    fn pass(&self, numbers: Pipe<u64>) -> Pipe<u64> {
        numbers
    }

    async fn pass_on(&self, numbers: Pipe<u64>, to: Worker<Station>) -> Result<u64, AnyError> {
        Ok(to.connect(()).await?.total(numbers).await?)
    }

    async fn write(&self, writer: PipeWriter<u64>, from: u64, to: u64) -> Result<(), AnyError> {
        Ok(writer.send_all(from..to).await?)
    }

    async fn let_write(
        &self,
        writer: PipeWriter<u64>,
        to: Worker<Station>,
    ) -> Result<(), AnyError> {
        Ok(to.connect(()).await?.write(writer, 0, MANY).await?)
    }

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Much more than all the windows on a way hold.
const MANY: u64 = 50_000;
const SUM: u64 = MANY * (MANY - 1) / 2;

fn spawner() -> Spawner<Station> {
    let settings = Settings::default().with_stream_window(16 * 1024);
    Station::spawner().settings(settings)
}

async fn start() -> StationsClient {
    spawner().spawn(()).await.expect("start a worker")
}

async fn start_two() -> (StationsClient, StationsClient) {
    (start().await, start().await)
}

#[rpc_parallel::test]
async fn a_pipe_of_one_worker_is_given_to_another() {
    let (one, other) = start_two().await;

    let pipe = one.count(MANY).await.expect("call it");
    let total = soon(other.total(pipe)).await;

    assert_eq!(total, Ok(SUM));
}

#[rpc_parallel::test]
async fn what_was_read_before_a_pipe_went_on_is_all_that_is_missing() {
    let (one, other) = start_two().await;

    let mut pipe = one.count(MANY).await.expect("call it");
    for expected in 0..100 {
        assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(expected));
    }
    let total = soon(other.total(pipe)).await;

    assert_eq!(total, Ok(SUM - 4950));
}

#[rpc_parallel::test]
async fn a_pipe_that_has_ended_already_goes_on_with_what_is_left_of_it() {
    let (one, other) = start_two().await;

    let mut pipe = one.count(10).await.expect("call it");
    assert_eq!(soon(pipe.next()).await.and_then(Result::ok), Some(0));
    // All of it is here before it goes on.
    for _ in 0..10 {
        one.pid().await.expect("call it");
    }
    drop(one);
    let total = soon(other.total(pipe)).await;

    assert_eq!(total, Ok(45));
}

#[rpc_parallel::test]
async fn the_halves_of_a_channel_go_to_different_workers() {
    let (one, other) = start_two().await;
    let (writer, pipe) = Pipe::pair();

    let (written, total) =
        soon(async { join!(one.write(writer, 0, MANY), other.total(pipe)) }).await;

    assert_eq!((written, total), (Ok(()), Ok(SUM)));
}

#[rpc_parallel::test]
async fn the_halves_of_a_channel_go_one_long_after_the_other() {
    let (one, other) = start_two().await;
    let ((early, late_pipe), (late, early_pipe)) = (Pipe::pair(), Pipe::pair());

    let writing = tokio::spawn(one.write(early, 0, MANY));
    let reading = tokio::spawn(other.total(early_pipe));
    for _ in 0..100 {
        one.pid().await.expect("call it");
        other.pid().await.expect("call it");
    }
    let (first, second) =
        soon(async { join!(other.total(late_pipe), one.write(late, 0, MANY)) }).await;

    assert_eq!((first, second), (Ok(SUM), Ok(())));
    assert_eq!(soon(writing).await.ok(), Some(Ok(())));
    assert_eq!(soon(reading).await.ok(), Some(Ok(SUM)));
}

#[rpc_parallel::test]
async fn what_was_written_before_a_pipe_goes_is_not_lost() {
    let (one, other) = start_two().await;
    let (writer, pipe) = Pipe::pair();

    for number in 0..10 {
        writer.send(number).await.expect("there is room");
    }
    let writing = tokio::spawn(one.write(writer, 10, MANY));
    let total = soon(other.total(pipe)).await;

    assert_eq!(total, Ok(SUM));
    assert_eq!(soon(writing).await.ok(), Some(Ok(())));
}

#[rpc_parallel::test]
async fn both_halves_go_to_the_same_worker() {
    let station = start().await;
    let (writer, pipe) = Pipe::pair();

    let (written, total) =
        soon(async { join!(station.write(writer, 0, MANY), station.total(pipe)) }).await;

    assert_eq!((written, total), (Ok(()), Ok(SUM)));
}

#[rpc_parallel::test]
async fn a_pipe_comes_back_from_where_it_went() {
    let (one, other) = start_two().await;

    let pipe = one.count(MANY).await.expect("call it");
    let once = other.pass(pipe).await.expect("call it");
    let twice = one.pass(once).await.expect("call it");

    assert!(elements(twice).await.into_iter().eq(0..MANY));
}

#[rpc_parallel::test]
async fn a_worker_passes_on_what_it_was_given() {
    let (one, other) = start_two().await;
    let last = spawner().start(()).await.expect("start a worker");
    let (writer, written) = Pipe::pair();

    let total = soon(one.pass_on(Pipe::from_items(0..MANY), last.clone())).await;
    let (passed, read) =
        soon(async { join!(other.let_write(writer, last), elements(written)) }).await;

    assert_eq!((total, passed), (Ok(SUM), Ok(())));
    assert!(read.into_iter().eq(0..MANY));
}

#[rpc_parallel::test]
async fn dropping_a_pipe_is_told_along_its_whole_way() {
    let (one, other) = start_two().await;

    let pipe = one.endless().await.expect("call it");
    let mut passed = other.pass(pipe).await.expect("call it");
    assert_eq!(soon(passed.next()).await.and_then(Result::ok), Some(0));
    drop(passed);

    assert_eq!(soon(one.happened("endless ended")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_death_on_the_way_of_a_pipe_is_no_end_of_it() {
    let (one, other) = start_two().await;
    let pid = one.pid().await.expect("call it");
    let pipe = one.endless().await.expect("call it");
    let reading = tokio::spawn(other.fate(pipe));
    soon(other.happened("fate")).await.expect("call it");

    kill(pid);

    let (_, error) = soon(reading).await.expect("no panic").expect("call it");
    let text = error.expect("it does not just end");
    assert!(text.contains("SIGKILL"), "{text}");
}

#[rpc_parallel::test]
async fn a_worker_whose_pipe_went_on_lives_as_long_as_it_is_read() {
    let (one, other) = start_two().await;
    let pid = one.pid().await.expect("call it");

    let pipe = one.count(MANY).await.expect("call it");
    drop(one);
    let total = soon(other.total(pipe)).await;

    assert_eq!(total, Ok(SUM));
    assert!(ends(pid).await, "nothing holds it any more");
}

#[rpc_parallel::test]
async fn a_pipe_of_which_the_other_half_is_gone_goes_nevertheless() {
    let station = start().await;
    let ((writer, finished), (lonely, dropped)) = (Pipe::pair(), Pipe::pair());
    writer.send(7).await.expect("there is room");

    drop(writer);
    drop(dropped);
    let total = soon(station.total(finished)).await;
    let written = soon(station.write(lonely, 0, MANY)).await;

    assert_eq!(total, Ok(7));
    assert!(matches!(written, Err(FunctionError::Function(_))), "{written:?}");
}

#[rpc_parallel::test]
async fn a_pipe_goes_only_once() {
    let station = start().await;
    let pipe = Pipe::from_items(0..10);

    let first = soon(StationsClient::TOTAL.call(&station, &pipe)).await;
    let second = soon(StationsClient::TOTAL.call(&station, &pipe)).await;

    assert_eq!(first, Ok(45));
    let Err(FunctionError::Call(error)) = second else { panic!("{second:?}") };
    let CallErrorKind::Unencodable { side: MessageKind::Arguments, why } = error.kind() else {
        panic!("{error}")
    };
    assert!(why.contains("Pipe"), "{why}");
    assert!(station.pid().await.is_ok());
}

#[rpc_parallel::test]
async fn a_pipe_does_not_go_inside_an_element_of_another() {
    let station = start().await;

    let mut pipes = station.pipes().await.expect("call it");
    let first = soon(pipes.next()).await;

    let Some(Err(error)) = first else { panic!("{first:?}") };
    let PipeErrorKind::Unencodable { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("only with a call"), "{why}");
}

#[test]
fn a_pipe_cannot_be_written_down() {
    let (writer, pipe) = Pipe::<u64>::pair();

    let errors = [
        serde_json::to_string(&pipe).map_err(|it| it.to_string()),
        serde_json::to_string(&writer).map_err(|it| it.to_string()),
    ];

    for error in errors {
        let text = error.expect_err("there is no call");
        assert!(text.contains("only with a call"), "{text}");
    }
    assert!(serde_json::from_str::<Pipe<u64>>("7").is_err());
}

/// Begins with a pipe, which there is no way to send then.
#[rpc_parallel::worker]
trait Nothing {
    fn nothing(&self);
}

struct Beginner;

impl WorkerState for Beginner {
    type Init = Pipe<u64>;

    async fn init(_: Pipe<u64>) -> Result<Self, BoxError> {
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Nothing for Beginner {
    fn nothing(&self) {}
}

#[rpc_parallel::test]
async fn a_pipe_does_not_go_where_there_is_no_connection_yet() {
    let (writer, pipe) = Pipe::pair();

    let error = Beginner::spawn(pipe).await.expect_err("there is no call");

    let SpawnErrorKind::InitArgument { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("only with a call"), "{why}");
    soon(writer.closed()).await;
}

#[rpc_parallel::test]
async fn a_call_that_cannot_be_sent_closes_its_pipes() {
    let station = start().await;
    kill(station.pid().await.expect("call it"));
    soon(station.client().closed()).await;
    let (writer, pipe) = Pipe::pair();

    let failed = soon(station.total(pipe)).await;
    soon(writer.closed()).await;

    assert!(failed.is_err());
    let error = writer.send(1).now_or_never().expect("it is closed").expect_err("nobody reads");
    assert!(!matches!(error.kind(), PipeErrorKind::Cancelled), "{error}");
}
