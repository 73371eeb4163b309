//! What a call carries, how calls share a connection, and functions as values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::function::Client;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, ends};
use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::timeout;
use tokio::{join, select};

/// What can be given, and what comes back.
#[rpc_parallel::worker]
trait Post {
    fn nothing(&self);
    async fn nothing_later(&self);
    async fn text(&self, text: &str) -> String;
    fn sum(&self, numbers: &[u64]) -> u64;
    fn parent(&self, path: &Path) -> PathBuf;
    fn mirror(&self, point: &Point) -> Point;
    fn owned(&self, text: String, numbers: Vec<u64>, point: Point) -> (String, u64, Point);
    async fn mixed(&self, text: &str, count: usize, numbers: &[u64]) -> String;
    #[expect(clippy::too_many_arguments, reason = "that is the point")]
    fn sixteen(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: &str,
        j: &[u8],
        k: bool,
        l: char,
        m: (u8, u8),
        n: Option<u8>,
        o: &Point,
        p: String,
    ) -> String;
}

/// A place on a sheet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Default, WorkerState)]
struct Postman;

#[rpc_parallel::worker]
impl Post for Postman {
    fn nothing(&self) {}

    async fn nothing_later(&self) {
        tokio::task::yield_now().await;
    }

    async fn text(&self, text: &str) -> String {
        text.to_uppercase()
    }

    fn sum(&self, numbers: &[u64]) -> u64 {
        numbers.iter().sum()
    }

    fn parent(&self, path: &Path) -> PathBuf {
        path.parent().unwrap_or(path).to_owned()
    }

    fn mirror(&self, point: &Point) -> Point {
        Point { x: point.y, y: point.x }
    }

    fn owned(&self, text: String, numbers: Vec<u64>, point: Point) -> (String, u64, Point) {
        (text + "!", numbers.into_iter().sum(), point)
    }

    async fn mixed(&self, text: &str, count: usize, numbers: &[u64]) -> String {
        format!("{} {numbers:?}", text.repeat(count))
    }

    fn sixteen(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: &str,
        j: &[u8],
        k: bool,
        l: char,
        m: (u8, u8),
        n: Option<u8>,
        o: &Point,
        p: String,
    ) -> String {
        format!("{a} {b} {c} {d} {e} {f} {g} {h} {i} {j:?} {k} {l} {m:?} {n:?} {o:?} {p}")
    }
}

#[rpc_parallel::test]
async fn arguments_travel_by_value_and_by_reference() {
    let post = Postman::spawn(()).await.expect("start a worker");
    let point = Point { x: 1, y: 2 };

    post.nothing().await.expect("call it");
    post.nothing_later().await.expect("call it");
    let text = post.text("grüße").await.expect("call it");
    let sum = post.sum(&[1, 2, 3]).await.expect("call it");
    let parent = post.parent(Path::new("/var/tmp")).await.expect("call it");
    let mirrored = post.mirror(&point).await.expect("call it");
    let owned = post.owned("a".into(), vec![4, 5], point).await.expect("call it");
    let mixed = post.mixed("ab", 2, &[7]).await.expect("call it");

    assert_eq!((text.as_str(), sum), ("GRÜSSE", 6));
    assert_eq!(parent, Path::new("/var"));
    assert_eq!(mirrored, Point { x: 2, y: 1 });
    assert_eq!(owned, ("a!".into(), 9, Point { x: 1, y: 2 }));
    assert_eq!(mixed, "abab [7]");
}

#[rpc_parallel::test]
async fn sixteen_arguments_arrive_in_their_places() {
    let post = Postman::spawn(()).await.expect("start a worker");

    let text = post
        .sixteen(
            1,
            2,
            3,
            4,
            -5,
            -6,
            -7,
            -8,
            "nine",
            &[10, 10],
            true,
            'l',
            (13, 13),
            Some(14),
            &Point { x: 15, y: 15 },
            "sixteen".into(),
        )
        .await
        .expect("call it");

    let expected = "1 2 3 4 -5 -6 -7 -8 nine [10, 10] true l (13, 13) Some(14) \
                    Point { x: 15, y: 15 } sixteen";
    assert_eq!(text, expected);
}

/// What a function may be written to return.
#[rpc_parallel::worker]
trait Halves {
    async fn plain(&self, number: u64) -> u64;
    async fn unit(&self, number: u64) -> Result<(), Odd>;
    async fn half(&self, number: u64) -> Result<u64, Odd>;
    fn half_of_module(&self, number: u64) -> halving::Result<u64>;
    #[worker(result)]
    fn half_or_odd(&self, number: u64) -> HalfOr<Odd>;
    /// A `Result` that is a value like others.
    fn attempts(&self, numbers: &[u64]) -> Vec<Result<u64, Odd>>;
}

/// The number has no half.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u64);

type HalfOr<E> = Result<u64, E>;

mod halving {
    pub type Result<T> = std::result::Result<T, super::Odd>;
}

#[derive(Default, WorkerState)]
struct Halver;

fn half(number: u64) -> Result<u64, Odd> {
    if number.is_multiple_of(2) { Ok(number / 2) } else { Err(Odd(number)) }
}

#[rpc_parallel::worker]
impl Halves for Halver {
    async fn plain(&self, number: u64) -> u64 {
        number / 2
    }

    async fn unit(&self, number: u64) -> Result<(), Odd> {
        half(number).map(drop)
    }

    async fn half(&self, number: u64) -> Result<u64, Odd> {
        half(number)
    }

    fn half_of_module(&self, number: u64) -> halving::Result<u64> {
        half(number)
    }

    fn half_or_odd(&self, number: u64) -> HalfOr<Odd> {
        half(number)
    }

    fn attempts(&self, numbers: &[u64]) -> Vec<Result<u64, Odd>> {
        numbers.iter().copied().map(half).collect()
    }
}

#[rpc_parallel::test]
async fn results_come_back_under_whatever_name_they_are_written() {
    let halves = Halver::spawn(()).await.expect("start a worker");

    assert_eq!(halves.plain(8).await, Ok(4));
    assert_eq!(halves.unit(8).await, Ok(()));
    assert_eq!(halves.half(8).await, Ok(4));
    assert_eq!(halves.half_of_module(8).await, Ok(4));
    assert_eq!(halves.half_or_odd(8).await, Ok(4));
    assert_eq!(halves.attempts(&[2, 3]).await, Ok(vec![Ok(1), Err(Odd(3))]));
}

#[rpc_parallel::test]
async fn errors_of_a_function_come_back_as_they_left() {
    let halves = Halver::spawn(()).await.expect("start a worker");

    assert_eq!(halves.unit(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(halves.half(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(halves.half_of_module(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(halves.half_or_odd(7).await, Err(FunctionError::Function(Odd(7))));
}

#[rpc_parallel::test]
async fn functions_as_values_keep_their_kind_of_result() {
    async fn run<F: Function<Input = u64>>(
        function: F,
        client: &F::Client,
    ) -> Result<F::Output, F::Error> {
        function.call(client, &7).await
    }
    let halves = Halver::spawn(()).await.expect("start a worker");

    assert_eq!(run(HalvesClient::PLAIN, &halves).await, Ok(3));
    assert_eq!(run(HalvesClient::HALF, &halves).await, Err(FunctionError::Function(Odd(7))));
}

/// Doors that one call opens for another.
#[rpc_parallel::worker]
trait Doors {
    /// Waits until the door has been opened, as often as somebody waits.
    async fn pass(&self, door: u32) -> u32;
    async fn open(&self, door: u32);
    /// Waits until so many wait, and passes with them.
    async fn pass_together(&self, number: u32) -> u32;
    fn connections(&self, cx: &Context<Guest>) -> usize;
    fn pid(&self) -> u32;
}

const TOGETHER: usize = 1000;

struct House {
    doors: Mutex<HashMap<u32, Arc<Semaphore>>>,
    together: Barrier,
    guests: Mutex<usize>,
}

/// Somebody who is connected.
struct Guest;

impl WorkerState for House {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        let together = Barrier::new(TOGETHER);
        Ok(Self { doors: Mutex::default(), together, guests: Mutex::default() })
    }
}

impl ConnectionState<House> for Guest {
    type Init = ();

    async fn init(house: &House, (): ()) -> Result<Self, BoxError> {
        *house.guests.lock().expect("nobody panics in here") += 1;
        Ok(Self)
    }
}

impl House {
    fn door(&self, door: u32) -> Arc<Semaphore> {
        let mut doors = self.doors.lock().expect("nobody panics in here");
        doors.entry(door).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }
}

#[rpc_parallel::worker]
impl Doors for House {
    async fn pass(&self, door: u32) -> u32 {
        let open = self.door(door);
        open.acquire().await.expect("doors are never closed").forget();
        door
    }

    async fn open(&self, door: u32) {
        self.door(door).add_permits(1);
    }

    async fn pass_together(&self, number: u32) -> u32 {
        self.together.wait().await;
        number
    }

    fn connections(&self, _: &Context<Guest>) -> usize {
        *self.guests.lock().expect("nobody panics in here")
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

#[rpc_parallel::test]
async fn a_later_call_overtakes_an_earlier_one() {
    let doors = House::spawn(()).await.expect("start a worker");

    // The first is answered only after the second.
    let (passed, opened) = join!(doors.pass(1).timeout(PATIENCE), doors.open(1));

    assert_eq!((passed, opened), (Ok(1), Ok(())));
}

#[rpc_parallel::test]
async fn answers_come_in_any_order() {
    let doors = House::spawn(()).await.expect("start a worker");
    let mut passing: FuturesUnordered<_> = [1, 2, 3].map(|it| doors.pass(it)).into_iter().collect();

    let mut order = Vec::new();
    for door in [2, 3, 1] {
        let (opened, passed) = join!(doors.open(door), passing.next());
        opened.expect("call it");
        order.extend(passed);
    }

    assert_eq!(order, [Ok(2), Ok(3), Ok(1)]);
}

#[rpc_parallel::test]
async fn select_takes_the_first_answer_and_leaves_the_connection_usable() {
    let doors = House::spawn(()).await.expect("start a worker");

    let first = select! {
        passed = doors.pass(1) => passed.map(|_| "passed"),
        opened = doors.open(2) => opened.map(|()| "opened"),
    };

    assert_eq!(first, Ok("opened"));
    assert_eq!(doors.pass(2).await, Ok(2));
}

#[rpc_parallel::test]
async fn a_thousand_calls_are_in_flight_at_once() {
    let doors = House::spawn(()).await.expect("start a worker");
    let numbers = 0..TOGETHER as u32;

    // None of them is answered before the last has arrived.
    let calls = numbers.clone().map(|it| doors.pass_together(it).timeout(PATIENCE));
    let passed: Result<Vec<_>, _> = join_all(calls).await.into_iter().collect();

    assert_eq!(passed, Ok(numbers.collect()));
}

#[rpc_parallel::test]
async fn a_call_keeps_its_connection_alive_without_any_client() {
    let doors = House::spawn(()).await.expect("start a worker");
    let (pass, open, pid) = (doors.pass(1), doors.open(1), doors.pid());
    drop(doors);

    let (passed, opened) = join!(pass, open);
    let pid = pid.await.expect("call it");

    assert_eq!((passed, opened), (Ok(1), Ok(())));
    assert!(ends(pid).await, "nothing holds the worker any more");
}

#[rpc_parallel::test]
async fn a_call_borrows_nothing() {
    let post = Postman::spawn(()).await.expect("start a worker");

    let call = {
        let (client, text) = (post.clone(), String::from("gone before the call is sent"));
        client.text(&text)
    };
    let task = tokio::spawn(call);

    let answer = task.await.expect("the task does not panic");
    assert_eq!(answer, Ok("GONE BEFORE THE CALL IS SENT".into()));
}

#[rpc_parallel::test]
async fn a_call_that_is_never_polled_is_never_sent() {
    let doors = House::spawn(()).await.expect("start a worker");

    drop(doors.open(1));

    let passed = doors.pass(1).timeout(Duration::from_millis(50)).await;
    assert_eq!(passed.map_err(kind), Err(timed_out(50)));
}

#[rpc_parallel::test]
async fn clones_of_a_client_share_its_connection() {
    let doors = House::spawn(()).await.expect("start a worker");
    let clone = doors.clone();

    let before = doors.connections().await;
    drop(doors);

    assert_eq!(before, Ok(1));
    assert_eq!(clone.connections().await, Ok(1));
}

#[test]
fn clients_and_calls_go_wherever_threads_go() {
    fn goes<T: Send + Sync + Clone + 'static>() {}
    fn goes_once<T: Send + Unpin + 'static>() {}

    goes::<PostClient>();
    goes::<Client>();
    goes_once::<rpc_parallel::Call<String>>();
    goes_once::<rpc_parallel::function::TryCall<Result<u64, Odd>>>();
}

fn kind(error: CallError) -> CallErrorKind {
    error.kind().clone()
}

fn timed_out(millis: u64) -> CallErrorKind {
    CallErrorKind::TimedOut { after: Duration::from_millis(millis), unsent: None }
}

#[rpc_parallel::test]
async fn a_call_out_of_time_leaves_the_connection_to_others() {
    let doors = House::spawn(()).await.expect("start a worker");

    let passed = doors.pass(1).timeout(Duration::from_millis(50)).await;

    let error = passed.expect_err("nobody opens the door");
    assert_eq!(*error.kind(), timed_out(50));
    assert_eq!(error.function().name(), "pass");
    assert_eq!(doors.open(2).await, Ok(()));
    assert_eq!(doors.pass(2).await, Ok(2));
}

#[rpc_parallel::test]
async fn answers_to_calls_that_were_given_up_reach_nobody_else() {
    let doors = House::spawn(()).await.expect("start a worker");
    for door in 0..100 {
        // Polled once, which sends it, and dropped.
        assert!(timeout(Duration::ZERO, doors.pass(door)).await.is_err());
    }

    let late = join_all((0..100).map(|it| doors.open(it)));
    let passing = join_all((100..200).map(|it| doors.pass(it).timeout(PATIENCE)));
    let opening = join_all((100..200).map(|it| doors.open(it)));
    let (_, passed, _) = join!(late, passing, opening);

    let passed: Result<Vec<_>, _> = passed.into_iter().collect();
    assert_eq!(passed, Ok((100..200).collect()));
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn a_client_works_in_another_thread_with_another_runtime() {
    let post = Postman::spawn(()).await.expect("start a worker");

    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("make a runtime").block_on(post.text("elsewhere").timeout(PATIENCE))
    });
    let answer = tokio::task::spawn_blocking(move || elsewhere.join()).await;

    let answer = answer.expect("no panic").expect("no panic");
    assert_eq!(answer, Ok("ELSEWHERE".into()));
}

/// Counts how often it was run.
#[rpc_parallel::worker]
trait Counting {
    async fn add(&self, number: u64) -> u64;
    async fn add_both(&self, one: u64, other: &[u64]) -> u64;
    fn total(&self) -> u64;
}

#[derive(Default, WorkerState)]
struct Counter(Mutex<u64>);

#[rpc_parallel::worker]
impl Counting for Counter {
    async fn add(&self, number: u64) -> u64 {
        let mut total = self.0.lock().expect("nobody panics in here");
        *total += number;
        *total
    }

    async fn add_both(&self, one: u64, other: &[u64]) -> u64 {
        self.add(one).await;
        self.add(other.iter().sum()).await
    }

    fn total(&self) -> u64 {
        *self.0.lock().expect("nobody panics in here")
    }
}

async fn twice<F: Function>(
    function: F,
    client: &F::Client,
    input: F::Input,
) -> Result<[F::Output; 2], F::Error> {
    let first = function.call(client, &input).await?;
    Ok([first, function.call(client, &input).await?])
}

#[rpc_parallel::test]
async fn a_function_is_a_value_that_runs_again_on_the_same_input() {
    let counter = Counter::spawn(()).await.expect("start a worker");

    assert_eq!(twice(CountingClient::TOTAL, &counter, ()).await, Ok([0, 0]));
    assert_eq!(twice(CountingClient::ADD, &counter, 5).await, Ok([5, 10]));
    assert_eq!(twice(CountingClient::ADD_BOTH, &counter, (1, vec![2, 3])).await, Ok([16, 22]));
}

#[test]
fn a_function_knows_its_name_and_takes_no_room() {
    let info = CountingClient::ADD_BOTH.info();

    assert_eq!(info.signature(), "add_both(u64,&[u64])->u64");
    assert_eq!((info.worker_trait(), info.name()), ("Counting", "add_both"));
    assert_eq!(size_of_val(&CountingClient::ADD_BOTH), 0);
}

#[rpc_parallel::test]
async fn of_two_maps_the_first_sees_the_output_first() {
    let counter = Counter::spawn(()).await.expect("start a worker");
    let function =
        CountingClient::ADD.map_output(|it| format!("{it} first")).map_output(|it| it + ", second");

    let output = function.call(&counter, &1);

    assert_eq!(output.await, Ok("1 first, second".into()));
}

#[rpc_parallel::test]
async fn of_two_contramaps_the_last_sees_the_input_first() {
    let counter = Counter::spawn(()).await.expect("start a worker");
    let function = CountingClient::ADD
        .map_input(|it: &u64| it + 1)
        .map_input(|it: &String| 10 * it.len() as u64);

    let output = twice(function, &counter, "abc".into()).await;

    assert_eq!(output, Ok([31, 62]));
}

#[rpc_parallel::test]
async fn maps_run_in_the_process_of_the_caller() {
    let counter = Counter::spawn(()).await.expect("start a worker");
    let seen = Mutex::new(Vec::new());
    let function = CountingClient::ADD.map_input(|it: &u64| {
        seen.lock().expect("nobody panics in here").push(*it);
        *it
    });

    function.call(&counter, &7).await.expect("call it");

    assert_eq!(seen.into_inner().expect("nobody panics in here"), [7]);
}
