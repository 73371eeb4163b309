//! The handshake of a connection, and how long each side waits for the other.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::peer::{self, Peer, frame, kind};
use super::{join, settle, soon};
use crate::connection::opening::{OpeningError, encode_request};
use crate::connection::scripted::{Functions, Halves, call, function, opening, try_client};
use crate::connection::{Client, Serving};
use crate::transport::memory::pair;
use crate::wire::{FrameError, FunctionInfo, Greeting, Refusal, Settings, WorkerId};

const ECHO: &FunctionInfo = &function("echo");

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Much longer than the handshake timeout.
const LONG: Duration = Duration::from_secs(3000);

fn settings() -> Settings {
    Settings::default().with_handshake_timeout(HANDSHAKE_TIMEOUT)
}

/// Starts a worker that decides about its client after `delay`: to refuse it, or to serve it.
fn decide_after(delay: Duration, worker_end: Halves, refusal: Option<Refusal>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut opening = opening(worker_end, settings());
        opening.receive_request().await.expect("the client sends its request at once");
        let decision = async {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            refusal
        };
        match opening.decide(decision).await.expect("the client waits for the decision") {
            Some(refusal) => opening.refuse(&refusal).await.expect("the client reads the refusal"),
            None => {
                let functions = Functions::default().with(ECHO, async |it: u64| it);
                let served = Serving::welcome(opening, Arc::new(functions)).run().await;
                served.expect("the client does not violate the protocol");
            }
        }
    })
}

/// Connects a client, and returns the result and the elapsed time.
async fn connect(client_end: Halves) -> (Result<Client, OpeningError>, Duration) {
    let began = Instant::now();
    let connected = soon("the client", try_client(client_end, settings())).await;
    (connected, began.elapsed())
}

/// Connects a client to a peer that sends only these frames, which must fail.
async fn connect_to_frames(frames: &[Vec<u8>]) -> (OpeningError, Duration) {
    let (client_end, worker_end) = pair(1024);
    let peer = Peer::new(worker_end);
    peer.send(&frames.concat());
    let (connected, took) = connect(client_end).await;
    (connected.expect_err("the peer does not complete the handshake"), took)
}

#[tokio::test(start_paused = true)]
async fn connecting_to_silent_worker_times_out() {
    let (error, took) = connect_to_frames(&[]).await;

    let timed_out = matches!(error, OpeningError::TimedOut { within: HANDSHAKE_TIMEOUT });
    assert!(timed_out, "{error:?}");
    assert_eq!(took, HANDSHAKE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn connecting_to_worker_that_does_not_read_times_out() {
    // The client's request is longer than the transport's 10 bytes.
    let (client_end, _worker_end) = pair(10);

    let (connected, took) = connect(client_end).await;

    let error = connected.expect_err("the request cannot be written");
    let timed_out = matches!(error, OpeningError::TimedOut { within: HANDSHAKE_TIMEOUT });
    assert!(timed_out, "{error:?}");
    assert_eq!(took, HANDSHAKE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn acknowledged_client_waits_beyond_handshake_timeout() {
    for capacity in [1, 1024] {
        let (client_end, worker_end) = pair(capacity);
        let worker = decide_after(LONG, worker_end, None);

        let (connected, took) = connect(client_end).await;

        let client = connected.expect("the worker accepts the client");
        assert_eq!(took, LONG);
        assert_eq!(call::<_, u64>(&client, ECHO, 7_u64).await, Ok(7));
        drop(client);
        join("the worker", worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_client_receives_late_refusal() {
    let (client_end, worker_end) = pair(1024);
    let refusal = Refusal::Init { why: "a late refusal".into() };
    let worker = decide_after(LONG, worker_end, Some(refusal.clone()));

    let (connected, took) = connect(client_end).await;

    let Err(OpeningError::Refused(refused)) = connected else { panic!("{connected:?}") };
    assert_eq!((refused, took), (refusal, LONG));
    worker.await.expect("the task does not panic");
}

#[tokio::test(start_paused = true)]
async fn acknowledged_client_notices_lost_worker() {
    let (client_end, worker_end) = pair(1024);
    let worker = decide_after(LONG, worker_end, None);
    let aborting = tokio::spawn(async move {
        sleep(2 * HANDSHAKE_TIMEOUT).await;
        worker.abort();
    });

    let (connected, took) = connect(client_end).await;

    assert!(matches!(connected, Err(OpeningError::Ended)), "{connected:?}");
    assert_eq!(took, 2 * HANDSHAKE_TIMEOUT);
    aborting.await.expect("the task does not panic");
}

#[tokio::test(start_paused = true)]
async fn second_acknowledge_frame_ends_connection() {
    let acknowledge = || frame(kind::ACKNOWLEDGE, &[]);

    let frames = [acknowledge(), acknowledge(), peer::welcome(settings())];
    let (error, took) = connect_to_frames(&frames).await;

    let OpeningError::Frame(FrameError::OutOfPlace(what)) = error else { panic!("{error:?}") };
    assert_eq!((what, took), ("acknowledgement of a greeting", Duration::ZERO));
}

fn request() -> Vec<u8> {
    let request = encode_request(WorkerId::random(), Greeting::new(&[]), &[], settings());
    request.expect("the request holds no arguments")
}

/// Returns the frames that a worker sends which refuses its client after `delay`.
async fn frames_of_refusal_after(delay: Duration) -> Vec<Vec<u8>> {
    let (client_end, worker_end) = pair(1024);
    let mut peer = Peer::new(client_end);
    let worker = decide_after(delay, worker_end, Some(Refusal::NoSuchWorker));
    peer.send(&request());
    let frames = soon("the worker", peer.receive_all()).await;
    worker.await.expect("the task does not panic");
    frames
}

#[tokio::test(start_paused = true)]
async fn only_slow_decision_is_preceded_by_acknowledge_frame() {
    let at_once = frames_of_refusal_after(Duration::ZERO).await;
    let late = frames_of_refusal_after(LONG).await;

    assert_eq!(at_once.len(), 1, "expected the refusal only: {at_once:?}");
    assert_eq!(late, [vec![kind::ACKNOWLEDGE], at_once[0].clone()]);
}

#[tokio::test(start_paused = true)]
async fn incomplete_request_times_out_at_worker() {
    for length in [0, 1, 20] {
        let (client_end, worker_end) = pair(1024);
        let request = encode_request(WorkerId::random(), Greeting::new(&[]), &[7; 100], settings());
        let peer = Peer::new(client_end);
        peer.send(&request.expect("the arguments are short")[..length]);
        let began = Instant::now();

        let received = soon("the worker", opening(worker_end, settings()).receive_request()).await;

        let error = received.map(drop).expect_err("the request is incomplete");
        let timed_out = matches!(error, OpeningError::TimedOut { within: HANDSHAKE_TIMEOUT });
        assert!(timed_out, "{error:?}");
        assert_eq!(began.elapsed(), HANDSHAKE_TIMEOUT);
    }
}

/// Connects a peer to a worker that never decides. The `Arc` has a second owner as long as the
/// worker's decision is pending.
async fn connect_to_undecided() -> (Peer, JoinHandle<Result<(), OpeningError>>, Arc<()>) {
    let (client_end, worker_end) = pair(1024);
    let decision = Arc::new(());
    let owned = decision.clone();
    let worker = tokio::spawn(async move {
        let mut opening = opening(worker_end, settings());
        opening.receive_request().await?;
        let never = async move {
            pending::<()>().await;
            drop(owned);
        };
        opening.decide(never).await
    });
    let mut peer = Peer::new(client_end);
    peer.send(&request());
    assert_eq!(
        soon("the `acknowledge` frame", peer.receive()).await,
        Some(vec![kind::ACKNOWLEDGE])
    );
    (peer, worker, decision)
}

#[tokio::test(start_paused = true)]
async fn worker_drops_decision_when_client_disconnects() {
    let (peer, worker, decision) = connect_to_undecided().await;
    settle().await;
    assert_eq!(Arc::strong_count(&decision), 2, "the decision is pending");

    drop(peer);

    let decided = join("the worker", worker).await;
    assert!(matches!(decided, Err(OpeningError::Ended)), "{decided:?}");
    assert_eq!(Arc::strong_count(&decision), 1, "the decision is dropped");
}

#[tokio::test(start_paused = true)]
async fn call_sent_before_welcome_is_answered_after_it() {
    let (client_end, worker_end) = pair(1024);
    let worker = decide_after(LONG, worker_end, None);
    let mut peer = Peer::new(client_end);
    peer.send(&request());
    assert_eq!(
        soon("the `acknowledge` frame", peer.receive()).await,
        Some(vec![kind::ACKNOWLEDGE])
    );

    peer.send(&peer::call(1, ECHO, &[7], &[]));

    assert_eq!(
        soon("the welcome", peer.receive()).await,
        Some(peer::welcome(settings())[4..].to_vec())
    );
    let answer = soon("the answer", peer.receive()).await;
    assert_eq!(answer.as_deref(), Some(&peer::answer(1, &[7], &[])[4..]));
    drop(peer);
    join("the worker", worker).await;
}
