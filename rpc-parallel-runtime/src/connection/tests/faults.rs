//! Reads and writes that fail: some errors pass, some mean that the peer is gone, and all others
//! break the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::faulty::{EndFaults, faulty};
use super::{read_all, settings, settle, soon};
use crate::connection::opening::{Opening, OpeningError, ask_for};
use crate::connection::scripted::{Functions, call, client, function, opening, try_client};
use crate::connection::{
    AnyError, Call, CallError, CallErrorKind, Client, Pipe, PipeErrorKind, Serving,
};
use crate::transport::memory::pair;
use crate::wire::{FunctionInfo, Greeting, Refusal, WorkerId};

const ECHO: &FunctionInfo = &function("echo");
/// Waits until the gate is open.
const WAIT: &FunctionInfo = &function("wait");
/// Returns a pipe without an end.
const COUNT: &FunctionInfo = &function("count");
/// Reads a pipe to its end, and notes how it ended.
const READ: &FunctionInfo = &function("read");
const NOTE: &FunctionInfo = &FunctionInfo { one_way: true, ..function("note") };

const CAPACITY: usize = 4 * 1024 * 1024;

/// Errors that pass.
const TRANSIENT: [Errno; 3] = [Errno::NOBUFS, Errno::NOMEM, Errno::INTR];
/// Errors that mean that the peer is gone.
const GONE: [Errno; 3] = [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN];
/// Some of the others.
const FATAL: [Errno; 3] = [Errno::MFILE, Errno::NOSPC, Errno::PERM];

/// A client and a worker, and what fails at each end.
struct Faulty {
    client: Client,
    here: EndFaults,
    there: EndFaults,
    gate: watch::Sender<bool>,
    notes: Arc<AtomicU32>,
    /// Ends with the text of the error that ended the worker's end, if one did.
    worker: JoinHandle<Option<String>>,
}

impl Faulty {
    async fn begin() -> Self {
        Self::with_capacity(CAPACITY).await
    }

    async fn with_capacity(capacity: usize) -> Self {
        let (here, there) = pair(capacity);
        let ((here, here_faults), (there, there_faults)) = (faulty(here), faulty(there));
        let (gate, opened) = watch::channel(false);
        let notes = Arc::new(AtomicU32::new(0));
        let noting = notes.clone();
        let functions = Functions::default()
            .with(ECHO, async |it: Vec<u8>| it)
            .with(WAIT, move |(): ()| {
                let mut opened = opened.clone();
                async move { drop(opened.wait_for(|it| *it).await) }
            })
            .with(COUNT, async |(): ()| Pipe::<u64>::from_items(0..))
            .with(NOTE, move |(): ()| {
                noting.fetch_add(1, Ordering::Relaxed);
                async {}
            });
        let mut opening = opening(there, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await.expect("the client asks at once");
            serve(opening, functions).await
        });
        let client = client(here, settings()).await;
        let (here, there) = (here_faults, there_faults);
        Self { client, here, there, gate, notes, worker }
    }

    fn echo(&self, bytes: &[u8]) -> Call<Vec<u8>> {
        call(&self.client, ECHO, bytes.to_vec())
    }

    fn wait(&self) -> Call<()> {
        call(&self.client, WAIT, ())
    }

    /// Begins calls that wait for their answers.
    async fn waiting(&self, count: usize) -> Vec<JoinHandle<Result<(), CallError>>> {
        let waiting = (0..count).map(|_| tokio::spawn(self.wait())).collect();
        settle().await;
        waiting
    }

    /// Ends the client and returns why the worker's end ended.
    async fn worker_ended(self) -> Option<String> {
        drop(self.client);
        soon("the worker", self.worker).await.expect("nothing panics")
    }
}

async fn serve(opening: Opening, functions: Functions) -> Option<String> {
    let served = Serving::welcome(opening, Arc::new(functions)).run().await;
    served.err().map(|it| AnyError::from(it).to_string())
}

fn ask() -> Vec<u8> {
    let ask = ask_for(WorkerId::random(), Greeting::new(&[]), &[], settings());
    ask.expect("there is nothing to encode")
}

/// Returns the text of an error, which an error of the system is part of.
fn assert_names(text: &str, errno: Errno) {
    let named = text.contains(&std::io::Error::from(errno).to_string());
    assert!(named, "{errno:?} is not in: {text}");
}

fn assert_lost_by(result: Result<impl Sized, CallError>, errno: Errno) {
    let Err(error) = result else { panic!("the call succeeds") };
    let lost = matches!(error.kind(), CallErrorKind::ConnectionLost { .. });
    assert!(lost, "{error}");
    assert_names(&error.to_string(), errno);
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_of_caller_delays_calls() {
    for errno in TRANSIENT {
        let faulty = Faulty::begin().await;
        faulty.here.writing.next([Some(errno); 5]);
        let began = Instant::now();

        let large = vec![7; 200_000];
        let (one, other, large_echo) = soon("the calls", async {
            tokio::join!(faulty.echo(&[1]), faulty.echo(&[2]), faulty.echo(&large))
        })
        .await;

        assert_eq!((one, other), (Ok(vec![1]), Ok(vec![2])), "{errno:?}");
        assert!(large_echo.is_ok_and(|it| it == large), "{errno:?}");
        assert_eq!(faulty.here.writing.failures(), 5, "{errno:?}");
        let took = began.elapsed();
        assert!((1..100).contains(&took.as_millis()), "{errno:?}: {took:?}");
        assert_eq!(faulty.worker_ended().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_of_worker_delays_answers() {
    for errno in TRANSIENT {
        let faulty = Faulty::begin().await;
        let waiting = faulty.waiting(50).await;
        faulty.there.writing.next([Some(errno); 5]);

        faulty.gate.send_replace(true);
        let echo = soon("the call", faulty.echo(&[1])).await;

        assert_eq!(echo, Ok(vec![1]), "{errno:?}");
        for waiting in waiting {
            assert_eq!(soon("an answer", waiting).await.expect("nothing panics"), Ok(()));
        }
        assert_eq!(faulty.there.writing.failures(), 5, "{errno:?}");
        assert_eq!(faulty.worker_ended().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn lasting_lack_of_memory_is_retried_without_spinning() {
    for of_worker in [false, true] {
        let faulty = Faulty::begin().await;
        let writing = match of_worker {
            true => &faulty.there.writing,
            false => &faulty.here.writing,
        };
        writing.begin(Errno::NOBUFS);
        let echo = tokio::spawn(faulty.echo(&[1]));

        sleep(Duration::from_secs(10)).await;

        let failures = writing.failures();
        assert!((50..200).contains(&failures), "{failures}");
        writing.end();
        let echo = soon("the call", echo).await.expect("nothing panics");
        assert_eq!(echo, Ok(vec![1]));
    }
}

#[tokio::test(start_paused = true)]
async fn caller_reads_answers_while_its_writes_fail() {
    let faulty = Faulty::begin().await;
    let waiting = faulty.waiting(3).await;
    faulty.here.writing.begin(Errno::NOBUFS);
    let echo = tokio::spawn(faulty.echo(&[1]));
    settle().await;

    faulty.gate.send_replace(true);

    for waiting in waiting {
        assert_eq!(soon("an answer", waiting).await.expect("nothing panics"), Ok(()));
    }
    assert!(!echo.is_finished());
    faulty.here.writing.end();
    assert_eq!(soon("the call", echo).await.expect("nothing panics"), Ok(vec![1]));
}

#[tokio::test(start_paused = true)]
async fn worker_reads_calls_while_its_writes_fail() {
    let faulty = Faulty::begin().await;
    faulty.there.writing.begin(Errno::NOBUFS);
    let echo = tokio::spawn(faulty.echo(&[1]));
    settle().await;

    soon("a one-way call", call::<_, ()>(&faulty.client, NOTE, ())).await.expect("it is written");
    settle().await;

    assert_eq!(faulty.notes.load(Ordering::Relaxed), 1);
    faulty.there.writing.end();
    assert_eq!(soon("the call", echo).await.expect("nothing panics"), Ok(vec![1]));
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_of_caller_fails_all_its_calls() {
    for errno in FATAL {
        let faulty = Faulty::begin().await;
        let waiting = faulty.waiting(3).await;
        let numbers: Pipe<u64> = soon("a pipe", call(&faulty.client, COUNT, ())).await.expect("..");
        faulty.here.writing.begin(errno);

        let echo = soon("the call", faulty.echo(&[1])).await;

        assert_lost_by(echo, errno);
        for waiting in waiting {
            assert_lost_by(soon("a call", waiting).await.expect("nothing panics"), errno);
        }
        let (_, error) = read_all(numbers).await;
        let Some(PipeErrorKind::ConnectionLost { why }) = error else { panic!("{error:?}") };
        assert_names(&why, errno);
        assert_lost_by(soon("a later call", faulty.echo(&[1])).await, errno);
        // The worker sees an end.
        assert_eq!(faulty.worker_ended().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_of_worker_ends_connection() {
    for errno in FATAL {
        let faulty = Faulty::begin().await;
        let waiting = faulty.waiting(3).await;
        faulty.there.writing.begin(errno);

        let echo = soon("the call", faulty.echo(&[1])).await;

        assert!(echo.is_err(), "{echo:?}");
        for waiting in waiting {
            assert!(soon("a call", waiting).await.expect("nothing panics").is_err());
        }
        assert!(soon("a later call", faulty.echo(&[1])).await.is_err());
        let text = faulty.worker_ended().await.expect("it is ended by an error");
        assert_names(&text, errno);
        assert!(text.starts_with("failed to write to the caller"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_worker_end_with_its_write_error() {
    let (here, there) = pair(CAPACITY);
    let (there, faults) = faulty(there);
    let mut opening = opening(there, settings());
    let (ended, mut seen) = watch::channel(None);
    let functions = Functions::default().with(READ, move |pipe: Pipe<u64>| {
        let ended = ended.clone();
        // It goes on when its connection is lost.
        tokio::spawn(async move {
            let (_, error) = read_all(pipe).await;
            ended.send_replace(error);
        });
        async {}
    });
    let worker = tokio::spawn(async move {
        opening.receive_request().await.expect("the client asks at once");
        serve(opening, functions).await
    });
    let client = client(here, settings()).await;
    let (writer, pipe) = Pipe::<u64>::pair();
    soon("the call", call::<_, ()>(&client, READ, pipe)).await.expect("it answers at once");

    faults.writing.begin(Errno::NOSPC);
    let call: Call<()> = call(&client, ECHO, Vec::<u8>::new());
    assert!(soon("a call", call).await.is_err());

    let error = soon("the pipe", seen.wait_for(Option::is_some)).await.expect("it is sent").clone();
    let Some(PipeErrorKind::ConnectionLost { why }) = error else { panic!("{error:?}") };
    assert_names(&why, Errno::NOSPC);
    drop(writer);
    assert!(soon("the worker", worker).await.expect("nothing panics").is_some());
}

#[tokio::test(start_paused = true)]
async fn answers_are_read_after_peer_reads_no_more() {
    for errno in GONE {
        let faulty = Faulty::begin().await;
        let waiting = faulty.waiting(3).await;
        faulty.here.writing.begin(errno);
        let echo = tokio::spawn(faulty.echo(&[1]));
        settle().await;

        faulty.gate.send_replace(true);

        for waiting in waiting {
            let answer = soon("an answer", waiting).await.expect("nothing panics");
            assert_eq!(answer, Ok(()), "{errno:?}");
        }
        assert!(!echo.is_finished(), "only reading tells the end");
        faulty.worker.abort();
        let echo = soon("the call", echo).await.expect("nothing panics");
        let Err(CallErrorKind::ConnectionLost { why }) = echo.map_err(|it| it.kind().clone())
        else {
            panic!("the call fails");
        };
        assert_eq!(why, "the worker closed the connection");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_read_after_caller_reads_no_more() {
    for errno in GONE {
        let faulty = Faulty::begin().await;
        faulty.there.writing.begin(errno);
        let echo = tokio::spawn(faulty.echo(&[1]));
        settle().await;

        for _ in 0..3 {
            let note = call::<_, ()>(&faulty.client, NOTE, ());
            soon("a one-way call", note).await.expect("it is written");
        }
        settle().await;

        assert_eq!(faulty.notes.load(Ordering::Relaxed), 3, "{errno:?}");
        assert!(!echo.is_finished());
        echo.abort();
        let _ = echo.await;
        assert_eq!(faulty.worker_ended().await, None, "{errno:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn transient_read_error_delays_calls() {
    for errno in TRANSIENT {
        let faulty = Faulty::begin().await;
        for faults in [&faulty.here.reading, &faulty.there.reading] {
            faults.next([None, Some(errno), Some(errno), None, Some(errno)]);
            let large = vec![7; 200_000];

            let (one, other) =
                soon("the calls", async { tokio::join!(faulty.echo(&[1]), faulty.echo(&large)) })
                    .await;

            assert_eq!(one, Ok(vec![1]), "{errno:?}");
            assert!(other.is_ok_and(|it| it == large), "{errno:?}");
            assert_eq!(faults.failures(), 3, "{errno:?}");
        }
        assert_eq!(faulty.worker_ended().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_read_error_of_caller_fails_calls_with_it() {
    let faulty = Faulty::begin().await;
    let waiting = faulty.waiting(2).await;
    faulty.here.reading.begin(Errno::NOSPC);

    let echo = soon("the call", faulty.echo(&[1])).await;

    assert_lost_by(echo, Errno::NOSPC);
    for waiting in waiting {
        assert_lost_by(soon("a call", waiting).await.expect("nothing panics"), Errno::NOSPC);
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_read_error_of_worker_ends_connection() {
    let faulty = Faulty::begin().await;
    faulty.there.reading.begin(Errno::NOSPC);

    let echo = soon("the call", faulty.echo(&[1])).await;

    assert!(echo.is_err(), "{echo:?}");
    let text = faulty.worker_ended().await.expect("it is ended by an error");
    assert_names(&text, Errno::NOSPC);
    assert!(text.starts_with("failed to read from the caller"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn registration_that_fails_for_lack_of_memory_is_retried() {
    for of_worker in [false, true] {
        let faulty = Faulty::with_capacity(1000).await;
        let registering = match of_worker {
            true => &faulty.there.registering,
            false => &faulty.here.registering,
        };
        registering.next([Some(Errno::NOMEM); 5]);
        let large = vec![7; 200_000];

        let echo = soon("the call", faulty.echo(&large)).await;

        assert!(echo.is_ok_and(|it| it == large));
        assert_eq!(registering.failures(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn registration_that_fails_otherwise_breaks_connection() {
    for errno in [Errno::MFILE, Errno::NOSPC] {
        let faulty = Faulty::with_capacity(1000).await;
        faulty.here.registering.begin(errno);

        let echo = soon("the call", faulty.echo(&vec![7; 200_000])).await;

        assert_lost_by(echo, errno);
        let faulty = Faulty::with_capacity(1000).await;
        faulty.there.registering.begin(errno);

        let echo = soon("the call", faulty.echo(&vec![7; 200_000])).await;

        assert!(echo.is_err());
        let text = faulty.worker_ended().await.expect("it is ended by an error");
        assert_names(&text, errno);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_errors_delay_opening() {
    for errno in TRANSIENT {
        let (here, there) = pair(CAPACITY);
        let ((here, here_faults), (there, there_faults)) = (faulty(here), faulty(there));
        for faults in [&here_faults, &there_faults] {
            faults.reading.next([Some(errno); 3]);
            faults.writing.next([Some(errno); 3]);
        }
        let mut opening = opening(there, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await?;
            // Long enough that the client is told that it was heard.
            opening.decide(sleep(Duration::from_secs(5))).await?;
            let functions = Functions::default().with(ECHO, async |it: Vec<u8>| it);
            Ok::<_, OpeningError>(serve(opening, functions).await)
        });

        let connected = soon("the client", try_client(here, settings())).await;

        let client = connected.expect("it is welcome");
        let echo: Call<Vec<u8>> = call(&client, ECHO, vec![1_u8]);
        assert_eq!(soon("the call", echo).await, Ok(vec![1]), "{errno:?}");
        drop(client);
        let served = soon("the worker", worker).await.expect("nothing panics");
        assert_eq!(served.expect("it is opened"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_write_error_delays_refusal() {
    for errno in TRANSIENT {
        let (here, there) = pair(CAPACITY);
        let (there, faults) = faulty(there);
        faults.writing.next([Some(errno); 3]);
        let mut opening = opening(there, settings());
        let worker = tokio::spawn(async move {
            opening.receive_request().await?;
            opening.refuse(&Refusal::NoSuchWorker).await
        });

        let connected = soon("the client", try_client(here, settings())).await;

        let refused = matches!(connected, Err(OpeningError::Refused(Refusal::NoSuchWorker)));
        assert!(refused, "{errno:?}: {connected:?}");
        soon("the worker", worker).await.expect("nothing panics").expect("it is written");
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_fails_connect_with_it() {
    for errno in FATAL {
        let (here, _there) = pair(CAPACITY);
        let (here, faults) = faulty(here);
        faults.writing.begin(errno);
        let began = Instant::now();

        let connected = soon("the client", try_client(here, settings())).await;

        let Err(OpeningError::Socket(error)) = connected else { panic!("{connected:?}") };
        assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_is_read_after_worker_reads_no_more() {
    for errno in GONE {
        let (here, there) = pair(CAPACITY);
        let (here, faults) = faulty(here);
        faults.writing.begin(errno);
        let refused = opening(there, settings()).refuse(&Refusal::NoSuchWorker).await;
        refused.expect("there is room");

        let connected = soon("the client", try_client(here, settings())).await;

        let refused = matches!(connected, Err(OpeningError::Refused(Refusal::NoSuchWorker)));
        assert!(refused, "{errno:?}: {connected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fatal_write_error_ends_decision() {
    let (here, there) = pair(CAPACITY);
    let (there, faults) = faulty(there);
    faults.writing.begin(Errno::NOSPC);
    let mut opening = opening(there, settings());
    let mut here = crate::connection::scripted::opening(here, settings());
    let asking = tokio::spawn(async move { here.connect(&ask()).await });

    opening.receive_request().await.expect("it is asked");
    let decided = soon("the decision", opening.decide(std::future::pending::<()>())).await;

    let Err(OpeningError::Socket(error)) = decided else { panic!("{decided:?}") };
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    drop(opening);
    assert!(soon("the client", asking).await.expect("nothing panics").is_err());
}

#[tokio::test(start_paused = true)]
async fn decision_goes_on_after_caller_reads_no_more_until_it_ends() {
    for errno in GONE {
        let (here, there) = pair(CAPACITY);
        let (there, faults) = faulty(there);
        faults.writing.begin(errno);
        let mut opening = opening(there, settings());
        let mut here = crate::connection::scripted::opening(here, settings());
        let asking = tokio::spawn(async move { here.connect(&ask()).await });
        opening.receive_request().await.expect("it is asked");
        let deciding =
            tokio::spawn(async move { opening.decide(std::future::pending::<()>()).await });
        settle().await;
        assert!(!deciding.is_finished(), "{errno:?}");

        asking.abort();

        let decided = soon("the decision", deciding).await.expect("nothing panics");
        assert!(matches!(decided, Err(OpeningError::Ended)), "{errno:?}: {decided:?}");
    }
}
