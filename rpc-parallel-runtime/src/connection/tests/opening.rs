//! The first words of a connection, and how long each side waits for those of the other.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::peer::{self, Peer, frame, kind};
use super::{settle, soon};
use crate::connection::opening::{OpeningError, ask_for};
use crate::connection::scripted::{Functions, Halves, call, function, opening, try_client};
use crate::connection::{Client, Serving};
use crate::transport::memory::pair;
use crate::wire::{FrameError, FunctionInfo, Greeting, Refusal, Settings, WorkerId};

const ECHO: &FunctionInfo = &function("echo");

const LIMIT: Duration = Duration::from_secs(2);

const LONG: Duration = Duration::from_secs(3000);

fn settings() -> Settings {
    Settings::default().with_handshake_timeout(LIMIT).expect("two seconds are allowed")
}

/// A worker that takes so long to decide, and then welcomes who asks, or does not.
fn decides(there: Halves, takes: Duration, refusal: Option<Refusal>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut opening = opening(there, settings());
        opening.receive_request().await.expect("the client asks at once");
        let deciding = async {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            refusal
        };
        match opening.decide(deciding).await.expect("the client waits") {
            Some(refusal) => opening.refuse(&refusal).await.expect("the client waits"),
            None => {
                let functions = Functions::default().with(ECHO, async |it: u64| it);
                let served = Serving::welcome(opening, Arc::new(functions)).run().await;
                served.expect("the client keeps the rules");
            }
        }
    })
}

/// Connects, and returns how long that took.
async fn connect(here: Halves) -> (Result<Client, OpeningError>, Duration) {
    let began = Instant::now();
    let connected = soon("a client", try_client(here, settings())).await;
    (connected, began.elapsed())
}

/// Connects to a worker that says something and no more.
async fn connect_to(says: &[Vec<u8>]) -> (OpeningError, Duration) {
    let (here, there) = pair(1024);
    let peer = Peer::new(there);
    peer.say(&says.concat());
    let (connected, took) = connect(here).await;
    (connected.expect_err("it is never welcome"), took)
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_no_longer_than_that_for_a_worker_that_is_silent() {
    let (error, took) = connect_to(&[]).await;

    assert!(matches!(error, OpeningError::TimedOut { within: LIMIT }), "{error:?}");
    assert_eq!(took, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_no_longer_than_that_for_a_worker_that_does_not_read() {
    // Less than its first words.
    let (here, _there) = pair(10);

    let (connected, took) = connect(here).await;

    let error = connected.expect_err("it is never heard");
    assert!(matches!(error, OpeningError::TimedOut { within: LIMIT }), "{error:?}");
    assert_eq!(took, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_heard_waits_as_long_as_the_worker_takes() {
    for capacity in [1, 1024] {
        let (here, there) = pair(capacity);
        let worker = decides(there, LONG, None);

        let (connected, took) = connect(here).await;

        let client = connected.expect("it is welcome in the end");
        assert_eq!(took, LONG);
        assert_eq!(call::<_, u64>(&client, ECHO, 7_u64).await, Ok(7));
        drop(client);
        soon("the worker", worker).await.expect("nothing panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_heard_learns_why_it_is_refused() {
    let (here, there) = pair(1024);
    let refusal = Refusal::Init { why: "after long thought".into() };
    let worker = decides(there, LONG, Some(refusal.clone()));

    let (connected, took) = connect(here).await;

    let Err(OpeningError::Refused(refused)) = connected else { panic!("{connected:?}") };
    assert_eq!((refused, took), (refusal, LONG));
    worker.await.expect("nothing panics");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_heard_notices_that_the_worker_is_gone() {
    let (here, there) = pair(1024);
    let worker = decides(there, LONG, None);
    let ended = tokio::spawn(async move {
        sleep(2 * LIMIT).await;
        worker.abort();
    });

    let (connected, took) = connect(here).await;

    assert!(matches!(connected, Err(OpeningError::Ended)), "{connected:?}");
    assert_eq!(took, 2 * LIMIT);
    ended.await.expect("nothing panics");
}

#[tokio::test(start_paused = true)]
async fn who_is_heard_twice_ends_the_connection() {
    let heard = || frame(kind::HEARD, &[]);

    let (error, took) = connect_to(&[heard(), heard(), frame(kind::WELCOME, &[])]).await;

    let OpeningError::Frame(FrameError::OutOfPlace(what)) = error else { panic!("{error:?}") };
    assert_eq!((what, took), ("acknowledgement of a greeting", Duration::ZERO));
}

fn ask() -> Vec<u8> {
    let ask = ask_for(WorkerId::random(), Greeting::new(&[]), &[], settings());
    ask.expect("there is nothing to encode")
}

/// Returns what a worker says that takes so long to decide.
async fn words_of_who_takes(takes: Duration) -> Vec<Vec<u8>> {
    let (here, there) = pair(1024);
    let mut peer = Peer::new(here);
    let worker = decides(there, takes, Some(Refusal::NoSuchWorker));
    peer.say(&ask());
    let words = soon("the worker", peer.hear_all()).await;
    worker.await.expect("nothing panics");
    words
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_decides_at_once_does_not_say_that_it_has_heard() {
    let (quick, slow) = (words_of_who_takes(Duration::ZERO).await, words_of_who_takes(LONG).await);

    assert_eq!(quick.len(), 1, "the refusal alone");
    assert_eq!(slow, [vec![kind::HEARD], quick[0].clone()]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_waits_no_longer_than_that_for_who_says_little_or_nothing() {
    for said in [0, 1, 20] {
        let (here, there) = pair(1024);
        let ask = ask_for(WorkerId::random(), Greeting::new(&[]), &[7; 100], settings());
        let peer = Peer::new(here);
        peer.say(&ask.expect("there is nothing to encode")[..said]);
        let began = Instant::now();

        let received = soon("the worker", opening(there, settings()).receive_request()).await;

        let error = received.map(drop).expect_err("it is no request yet");
        assert!(matches!(error, OpeningError::TimedOut { within: LIMIT }), "{error:?}");
        assert_eq!(began.elapsed(), LIMIT);
    }
}

/// A worker that never decides, and a peer that it has heard.
async fn never_decides() -> (Peer, JoinHandle<Result<(), OpeningError>>, Arc<()>) {
    let (here, there) = pair(1024);
    let deciding = Arc::new(());
    let decides = deciding.clone();
    let worker = tokio::spawn(async move {
        let mut opening = opening(there, settings());
        opening.receive_request().await?;
        let never = async move {
            pending::<()>().await;
            drop(decides);
        };
        opening.decide(never).await
    });
    let mut peer = Peer::new(here);
    peer.say(&ask());
    assert_eq!(soon("the worker", peer.hear()).await, Some(vec![kind::HEARD]));
    (peer, worker, deciding)
}

#[tokio::test(start_paused = true)]
async fn a_worker_decides_nothing_for_who_is_gone() {
    let (peer, worker, deciding) = never_decides().await;
    settle().await;
    assert_eq!(Arc::strong_count(&deciding), 2);

    drop(peer);

    let decided = soon("the worker", worker).await.expect("nothing panics");
    assert!(matches!(decided, Err(OpeningError::Ended)), "{decided:?}");
    assert_eq!(Arc::strong_count(&deciding), 1, "nobody goes on with it");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_before_it_is_decided_is_heard_afterwards() {
    let (here, there) = pair(1024);
    let worker = decides(there, LONG, None);
    let mut peer = Peer::new(here);
    peer.say(&ask());
    assert_eq!(soon("the worker", peer.hear()).await, Some(vec![kind::HEARD]));

    peer.say(&peer::call(1, ECHO, &[7], &[]));

    assert_eq!(soon("the worker", peer.hear()).await, Some(vec![kind::WELCOME]));
    let answer = soon("the worker", peer.hear()).await;
    assert_eq!(answer.as_deref(), Some(&peer::answer(1, &[7], &[])[4..]));
    drop(peer);
    soon("the worker", worker).await.expect("nothing panics");
}
