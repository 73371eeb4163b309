//! Reads and writes that fail: transient errors are retried, errors of a closed peer leave reading
//! intact, and all other errors break the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::faulty::{EndFaults, faulty};
use super::{join, read_all, settings, settle, soon};
use crate::connection::opening::{Opening, OpeningError, encode_request};
use crate::connection::scripted::{Functions, call, client, function, opening, try_client};
use crate::connection::{
    AnyError, Call, CallError, CallErrorKind, Client, Pipe, PipeErrorKind, Serving,
};
use crate::transport::memory::pair;
use crate::wire::{FunctionInfo, Greeting, Refusal, WorkerId};

const ECHO: &FunctionInfo = &function("echo");
/// Returns after the test has opened the gate.
const WAIT: &FunctionInfo = &function("wait");
/// Returns an endless pipe.
const COUNT: &FunctionInfo = &function("count");
/// Reads a pipe to its end, and reports how it ended.
const READ: &FunctionInfo = &function("read");
/// Counts its calls.
const NOTE: &FunctionInfo = &FunctionInfo { one_way: true, ..function("note") };

const CAPACITY: usize = 4 * 1024 * 1024;

/// Errors after which the operation is retried.
const TRANSIENT: [Errno; 3] = [Errno::NOBUFS, Errno::NOMEM, Errno::INTR];
/// Errors of writing to a peer that does not read any more.
const PEER_CLOSED: [Errno; 3] = [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN];
/// Some of the errors that break the connection.
const FATAL: [Errno; 3] = [Errno::MFILE, Errno::NOSPC, Errno::PERM];

/// A client and a worker over a transport with faults at both ends.
struct Faulty {
    client: Client,
    client_faults: EndFaults,
    worker_faults: EndFaults,
    gate: watch::Sender<bool>,
    notes: Arc<AtomicU32>,
    /// Resolves to the text of the error that ended the worker's end, if any.
    worker: JoinHandle<Option<String>>,
}

impl Faulty {
    async fn connect() -> Self {
        Self::with_capacity(CAPACITY).await
    }

    async fn with_capacity(capacity: usize) -> Self {
        let (client_end, worker_end) = pair(capacity);
        let (client_end, client_faults) = faulty(client_end);
        let (worker_end, worker_faults) = faulty(worker_end);
        let (gate, opened) = watch::channel(false);
        let notes = Arc::new(AtomicU32::new(0));
        let counted = notes.clone();
        let functions = Functions::default()
            .with(ECHO, async |it: Vec<u8>| it)
            .with(WAIT, move |(): ()| {
                let mut opened = opened.clone();
                async move { drop(opened.wait_for(|it| *it).await) }
            })
            .with(COUNT, async |(): ()| Pipe::<u64>::from_items(0..))
            .with(NOTE, move |(): ()| {
                counted.fetch_add(1, Ordering::Relaxed);
                async {}
            });
        let mut opening = opening(worker_end, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await.expect("the client sends its request at once");
            serve(opening, functions).await
        });
        let client = client(client_end, settings()).await;
        Self { client, client_faults, worker_faults, gate, notes, worker }
    }

    fn echo(&self, bytes: &[u8]) -> Call<Vec<u8>> {
        call(&self.client, ECHO, bytes.to_vec())
    }

    fn note(&self) -> Call<()> {
        call(&self.client, NOTE, ())
    }

    /// Starts calls that are answered after the gate is opened.
    async fn start_waiting(&self, count: usize) -> Vec<JoinHandle<Result<(), CallError>>> {
        let waiting = (0..count).map(|_| tokio::spawn(call(&self.client, WAIT, ()))).collect();
        settle().await;
        waiting
    }

    /// Drops the client, and returns the error that ended the worker's end, if any.
    async fn worker_error(self) -> Option<String> {
        drop(self.client);
        join("the worker", self.worker).await
    }
}

async fn serve(opening: Opening, functions: Functions) -> Option<String> {
    let served = Serving::welcome(opening, Arc::new(functions)).run().await;
    served.err().map(|it| AnyError::from(it).to_string())
}

fn request() -> Vec<u8> {
    let request = encode_request(WorkerId::random(), Greeting::new(&[]), &[], settings());
    request.expect("the request holds no arguments")
}

/// Asserts that the text of an error contains the message of the system's error.
fn assert_names(text: &str, errno: Errno) {
    let message = std::io::Error::from(errno).to_string();
    assert!(text.contains(&message), "expected `{message}` in: {text}");
}

/// Asserts that a call failed with the loss of its connection because of a system's error.
fn assert_lost_by(result: Result<impl Sized, CallError>, errno: Errno) {
    let Err(error) = result else { panic!("expected {errno:?}, but the call succeeds") };
    let lost = matches!(error.kind(), CallErrorKind::ConnectionLost { .. });
    assert!(lost, "{error}");
    assert_names(&error.to_string(), errno);
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_of_caller_delays_calls() {
    for errno in TRANSIENT {
        let faulty = Faulty::connect().await;
        faulty.client_faults.writing.next([Some(errno); 5]);
        let began = Instant::now();

        let large = vec![7; 200_000];
        let (one, other, large_echo) = soon("the calls", async {
            tokio::join!(faulty.echo(&[1]), faulty.echo(&[2]), faulty.echo(&large))
        })
        .await;

        assert_eq!((one, other), (Ok(vec![1]), Ok(vec![2])), "{errno:?}");
        assert!(large_echo.is_ok_and(|it| it == large), "{errno:?}");
        assert_eq!(faulty.client_faults.writing.failures(), 5, "{errno:?}");
        let took = began.elapsed();
        assert!((1..100).contains(&took.as_millis()), "{errno:?}: took {took:?}");
        assert_eq!(faulty.worker_error().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_of_worker_delays_answers() {
    for errno in TRANSIENT {
        let faulty = Faulty::connect().await;
        let waiting = faulty.start_waiting(50).await;
        faulty.worker_faults.writing.next([Some(errno); 5]);

        faulty.gate.send_replace(true);
        let echo = soon("the call", faulty.echo(&[1])).await;

        assert_eq!(echo, Ok(vec![1]), "{errno:?}");
        for waiting in waiting {
            assert_eq!(join("a waiting call", waiting).await, Ok(()));
        }
        assert_eq!(faulty.worker_faults.writing.failures(), 5, "{errno:?}");
        assert_eq!(faulty.worker_error().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn persistent_lack_of_memory_is_retried_without_spinning() {
    for of_worker in [false, true] {
        let faulty = Faulty::connect().await;
        let writing = match of_worker {
            true => &faulty.worker_faults.writing,
            false => &faulty.client_faults.writing,
        };
        writing.begin(Errno::NOBUFS);
        let echo = tokio::spawn(faulty.echo(&[1]));

        sleep(Duration::from_secs(10)).await;

        let failures = writing.failures();
        assert!((50..200).contains(&failures), "{failures} attempts in 10 s");
        writing.end();
        let echo = join("the call", echo).await;
        assert_eq!(echo, Ok(vec![1]));
    }
}

#[tokio::test(start_paused = true)]
async fn caller_reads_answers_while_its_writes_fail() {
    let faulty = Faulty::connect().await;
    let waiting = faulty.start_waiting(3).await;
    faulty.client_faults.writing.begin(Errno::NOBUFS);
    let echo = tokio::spawn(faulty.echo(&[1]));
    settle().await;

    faulty.gate.send_replace(true);

    for waiting in waiting {
        assert_eq!(join("a waiting call", waiting).await, Ok(()));
    }
    assert!(!echo.is_finished());
    faulty.client_faults.writing.end();
    assert_eq!(join("the call", echo).await, Ok(vec![1]));
}

#[tokio::test(start_paused = true)]
async fn worker_reads_calls_while_its_writes_fail() {
    let faulty = Faulty::connect().await;
    faulty.worker_faults.writing.begin(Errno::NOBUFS);
    let echo = tokio::spawn(faulty.echo(&[1]));
    settle().await;

    soon("a one-way call", faulty.note()).await.expect("the one-way call is sent");
    settle().await;

    assert_eq!(faulty.notes.load(Ordering::Relaxed), 1);
    faulty.worker_faults.writing.end();
    assert_eq!(join("the call", echo).await, Ok(vec![1]));
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_of_caller_fails_all_its_calls() {
    for errno in FATAL {
        let faulty = Faulty::connect().await;
        let waiting = faulty.start_waiting(3).await;
        let count = call::<_, Pipe<u64>>(&faulty.client, COUNT, ());
        let numbers = soon("the pipe", count).await.expect("the call succeeds");
        faulty.client_faults.writing.begin(errno);

        let echo = soon("the call", faulty.echo(&[1])).await;

        assert_lost_by(echo, errno);
        for waiting in waiting {
            assert_lost_by(join("a waiting call", waiting).await, errno);
        }
        let (_, error) = read_all(numbers).await;
        let Some(PipeErrorKind::ConnectionLost { why }) = error else { panic!("{error:?}") };
        assert_names(&why, errno);
        assert_lost_by(soon("a later call", faulty.echo(&[1])).await, errno);
        // The worker reads the end of the connection, which is not an error.
        assert_eq!(faulty.worker_error().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_of_worker_ends_connection() {
    for errno in FATAL {
        let faulty = Faulty::connect().await;
        let waiting = faulty.start_waiting(3).await;
        faulty.worker_faults.writing.begin(errno);

        let echo = soon("the call", faulty.echo(&[1])).await;

        assert!(echo.is_err(), "{echo:?}");
        for waiting in waiting {
            assert!(join("a waiting call", waiting).await.is_err());
        }
        assert!(soon("a later call", faulty.echo(&[1])).await.is_err());
        let text = faulty.worker_error().await.expect("an error ends the worker's connection");
        assert_names(&text, errno);
        assert!(text.starts_with("failed to write to the caller"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_worker_end_with_its_write_error() {
    let (client_end, worker_end) = pair(CAPACITY);
    let (worker_end, faults) = faulty(worker_end);
    let mut opening = opening(worker_end, settings());
    let (sender, mut pipe_error) = watch::channel(None);
    let functions = Functions::default().with(READ, move |pipe: Pipe<u64>| {
        let sender = sender.clone();
        // The task keeps running when its connection is lost.
        tokio::spawn(async move {
            let (_, error) = read_all(pipe).await;
            sender.send_replace(error);
        });
        async {}
    });
    let worker = tokio::spawn(async move {
        opening.receive_request().await.expect("the client sends its request at once");
        serve(opening, functions).await
    });
    let client = client(client_end, settings()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    soon("the call", call::<_, ()>(&client, READ, pipe)).await.expect("the call succeeds");

    faults.writing.begin(Errno::NOSPC);
    let call: Call<()> = call(&client, ECHO, Vec::<u8>::new());
    assert!(soon("a call", call).await.is_err());

    let error = soon("the pipe", pipe_error.wait_for(Option::is_some)).await;
    let error = error.expect("the task reads the pipe to its end").clone();
    let Some(PipeErrorKind::ConnectionLost { why }) = error else { panic!("{error:?}") };
    assert_names(&why, Errno::NOSPC);
    drop(writer);
    assert!(join("the worker", worker).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn answers_are_read_after_worker_stops_reading() {
    for errno in PEER_CLOSED {
        let faulty = Faulty::connect().await;
        let waiting = faulty.start_waiting(3).await;
        faulty.client_faults.writing.begin(errno);
        let echo = tokio::spawn(faulty.echo(&[1]));
        settle().await;

        faulty.gate.send_replace(true);

        for waiting in waiting {
            let answer = join("a waiting call", waiting).await;
            assert_eq!(answer, Ok(()), "{errno:?}");
        }
        assert!(!echo.is_finished(), "only reading detects the end of the connection");
        faulty.worker.abort();
        let echo = join("the call", echo).await;
        let Err(CallErrorKind::ConnectionLost { why }) = echo.map_err(|it| it.kind().clone())
        else {
            panic!("expected a lost connection");
        };
        assert_eq!(why, "the worker closed the connection");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_read_after_caller_stops_reading() {
    for errno in PEER_CLOSED {
        let faulty = Faulty::connect().await;
        faulty.worker_faults.writing.begin(errno);
        let echo = tokio::spawn(faulty.echo(&[1]));
        settle().await;

        for _ in 0..3 {
            soon("a one-way call", faulty.note()).await.expect("the one-way call is sent");
        }
        settle().await;

        assert_eq!(faulty.notes.load(Ordering::Relaxed), 3, "{errno:?}");
        assert!(!echo.is_finished());
        echo.abort();
        let _ = echo.await;
        assert_eq!(faulty.worker_error().await, None, "{errno:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn transient_read_error_delays_calls() {
    for errno in TRANSIENT {
        let faulty = Faulty::connect().await;
        for faults in [&faulty.client_faults.reading, &faulty.worker_faults.reading] {
            faults.next([None, Some(errno), Some(errno), None, Some(errno)]);
            let large = vec![7; 200_000];

            let (one, other) =
                soon("the calls", async { tokio::join!(faulty.echo(&[1]), faulty.echo(&large)) })
                    .await;

            assert_eq!(one, Ok(vec![1]), "{errno:?}");
            assert!(other.is_ok_and(|it| it == large), "{errno:?}");
            assert_eq!(faults.failures(), 3, "{errno:?}");
        }
        assert_eq!(faulty.worker_error().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_read_error_of_caller_fails_calls_with_it() {
    let faulty = Faulty::connect().await;
    let waiting = faulty.start_waiting(2).await;
    faulty.client_faults.reading.begin(Errno::NOSPC);

    let echo = soon("the call", faulty.echo(&[1])).await;

    assert_lost_by(echo, Errno::NOSPC);
    for waiting in waiting {
        assert_lost_by(join("a waiting call", waiting).await, Errno::NOSPC);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_read_error_of_worker_ends_connection() {
    let faulty = Faulty::connect().await;
    faulty.worker_faults.reading.begin(Errno::NOSPC);

    let echo = soon("the call", faulty.echo(&[1])).await;

    assert!(echo.is_err(), "{echo:?}");
    let text = faulty.worker_error().await.expect("an error ends the worker's connection");
    assert_names(&text, Errno::NOSPC);
    assert!(text.starts_with("failed to read from the caller"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn failed_registration_is_retried_for_lack_of_memory() {
    for of_worker in [false, true] {
        let faulty = Faulty::with_capacity(1000).await;
        let registering = match of_worker {
            true => &faulty.worker_faults.registering,
            false => &faulty.client_faults.registering,
        };
        registering.next([Some(Errno::NOMEM); 5]);
        let large = vec![7; 200_000];

        let echo = soon("the call", faulty.echo(&large)).await;

        assert!(echo.is_ok_and(|it| it == large));
        assert_eq!(registering.failures(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn permanently_failing_registration_breaks_connection() {
    for errno in [Errno::MFILE, Errno::NOSPC] {
        let faulty_client = Faulty::with_capacity(1000).await;
        let faulty_worker = Faulty::with_capacity(1000).await;
        faulty_client.client_faults.registering.begin(errno);
        faulty_worker.worker_faults.registering.begin(errno);

        let first = soon("the call", faulty_client.echo(&vec![7; 200_000])).await;
        let second = soon("the call", faulty_worker.echo(&vec![7; 200_000])).await;

        assert_lost_by(first, errno);
        assert!(second.is_err());
        let text = faulty_worker.worker_error().await;
        assert_names(&text.expect("an error ends the worker's connection"), errno);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_errors_delay_opening() {
    for errno in TRANSIENT {
        let (client_end, worker_end) = pair(CAPACITY);
        let (client_end, client_faults) = faulty(client_end);
        let (worker_end, worker_faults) = faulty(worker_end);
        for faults in [&client_faults, &worker_faults] {
            faults.reading.next([Some(errno); 3]);
            faults.writing.next([Some(errno); 3]);
        }
        let mut opening = opening(worker_end, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await?;
            // Long enough that the worker sends an `acknowledge` frame first.
            opening.decide(sleep(Duration::from_secs(5))).await?;
            let functions = Functions::default().with(ECHO, async |it: Vec<u8>| it);
            Ok::<_, OpeningError>(serve(opening, functions).await)
        });

        let connected = soon("the client", try_client(client_end, settings())).await;

        let client = connected.expect("the worker accepts the client");
        let echo: Call<Vec<u8>> = call(&client, ECHO, vec![1_u8]);
        assert_eq!(soon("the call", echo).await, Ok(vec![1]), "{errno:?}");
        drop(client);
        let served = join("the worker", worker).await;
        assert_eq!(served.expect("the connection opens"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_delays_refusal() {
    for errno in TRANSIENT {
        let (client_end, worker_end) = pair(CAPACITY);
        let (worker_end, faults) = faulty(worker_end);
        faults.writing.next([Some(errno); 3]);
        let mut opening = opening(worker_end, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await?;
            opening.refuse(&Refusal::NoSuchWorker).await
        });

        let connected = soon("the client", try_client(client_end, settings())).await;

        let refused = matches!(connected, Err(OpeningError::Refused(Refusal::NoSuchWorker)));
        assert!(refused, "{errno:?}: {connected:?}");
        join("the worker", worker).await.expect("the refusal is written");
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_fails_connect_with_it() {
    for errno in FATAL {
        let (client_end, _worker_end) = pair(CAPACITY);
        let (client_end, faults) = faulty(client_end);
        faults.writing.begin(errno);
        let began = Instant::now();

        let connected = soon("the client", try_client(client_end, settings())).await;

        let Err(OpeningError::Socket(error)) = connected else { panic!("{connected:?}") };
        assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_is_read_after_worker_stops_reading() {
    for errno in PEER_CLOSED {
        let (client_end, worker_end) = pair(CAPACITY);
        let (client_end, faults) = faulty(client_end);
        faults.writing.begin(errno);
        let refused = opening(worker_end, settings()).refuse(&Refusal::NoSuchWorker).await;
        refused.expect("the refusal fits into the transport");

        let connected = soon("the client", try_client(client_end, settings())).await;

        let refused = matches!(connected, Err(OpeningError::Refused(Refusal::NoSuchWorker)));
        assert!(refused, "{errno:?}: {connected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_ends_decision() {
    let (client_end, worker_end) = pair(CAPACITY);
    let (worker_end, faults) = faulty(worker_end);
    faults.writing.begin(Errno::NOSPC);
    let mut worker_opening = opening(worker_end, settings());
    let mut client_opening = opening(client_end, settings());
    let connecting = tokio::spawn(async move { client_opening.connect(&request()).await });

    worker_opening.receive_request().await.expect("the client sends its request at once");
    let decided = soon("the decision", worker_opening.decide(std::future::pending::<()>())).await;

    let Err(OpeningError::Socket(error)) = decided else { panic!("{decided:?}") };
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    drop(worker_opening);
    assert!(join("the client", connecting).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn decision_continues_until_caller_that_stopped_reading_disconnects() {
    for errno in PEER_CLOSED {
        let (client_end, worker_end) = pair(CAPACITY);
        let (worker_end, faults) = faulty(worker_end);
        faults.writing.begin(errno);
        let mut worker_opening = opening(worker_end, settings());
        let mut client_opening = opening(client_end, settings());
        let connecting = tokio::spawn(async move { client_opening.connect(&request()).await });
        worker_opening.receive_request().await.expect("the client sends its request at once");
        let deciding =
            tokio::spawn(async move { worker_opening.decide(std::future::pending::<()>()).await });
        settle().await;
        assert!(!deciding.is_finished(), "{errno:?}");

        connecting.abort();

        let decided = join("the decision", deciding).await;
        assert!(matches!(decided, Err(OpeningError::Ended)), "{errno:?}: {decided:?}");
    }
}
