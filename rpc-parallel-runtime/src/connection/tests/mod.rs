//! Both ends of a connection over a transport in memory, with paused time.

mod opening;
mod calls;
mod one_way;
mod streams;
mod chunks;
mod direct;
mod transfers;
mod cancelling;
mod deadlines;
mod killing;
mod spans;
mod faulty;
mod faults;
mod restart;
mod peer;
mod violations;
mod slow_peers;
mod wakers;
mod limits;
mod several_threads;
#[cfg(feature = "pool")]
mod looking;
mod closing;
mod flushing;
mod model;
mod traffic;
#[cfg(shuttle)]
mod schedules;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, yield_now};

use super::client::Client;
use super::scripted::{Functions, client_of_process, opening};
use super::shared::Connection;
use super::{PipeError, PipeErrorKind, ProcessAccess, Serving, ServingError};
use crate::transport::memory::pair;
use crate::wire::Settings;

/// The two ends of one connection.
struct Connected {
    client: Client,
    /// The driver of the worker's end.
    worker: JoinHandle<Result<(), ServingError>>,
    worker_connection: Arc<Connection>,
}

impl Connected {
    fn client_connection(&self) -> Arc<Connection> {
        self.client.connection()
    }

    /// Asserts that both ends have removed every stream.
    fn assert_no_open_streams(&self) {
        let connections = [&self.client_connection(), &self.worker_connection];
        assert_eq!(connections.map(|it| it.open_streams()), [0, 0], "streams are still open");
        let counted = connections.map(|it| it.traffic().counts().open_pipes);
        assert_eq!(counted, [0, 0], "streams are still counted as open");
    }
}

/// Connects a client to `functions` over a transport that holds `capacity` bytes per direction.
async fn connected(capacity: usize, functions: Functions) -> Connected {
    connected_with(capacity, settings(), functions).await
}

async fn connected_with(capacity: usize, settings: Settings, functions: Functions) -> Connected {
    connected_to_process(capacity, settings, functions, ProcessAccess::none()).await
}

/// Connects a client to `functions`. The two ends have different settings.
async fn connected_between(caller: Settings, worker: Settings, functions: Functions) -> Connected {
    connect(1_000_000, caller, worker, functions, ProcessAccess::none()).await
}

async fn connected_to_process(
    capacity: usize,
    settings: Settings,
    functions: Functions,
    process_access: ProcessAccess,
) -> Connected {
    connect(capacity, settings, settings, functions, process_access).await
}

async fn connect(
    capacity: usize,
    caller: Settings,
    worker: Settings,
    functions: Functions,
    process_access: ProcessAccess,
) -> Connected {
    let (here, there) = pair(capacity);
    let mut opening = opening(there, worker);
    let serving = tokio::spawn(async move {
        opening.receive_request().await.expect("the client sends its request at once");
        let serving = Serving::welcome(opening, Arc::new(functions));
        (serving.connection(), tokio::spawn(serving.run()))
    });
    let client = client_of_process(here, caller, process_access).await;
    let client = client.expect("the worker accepts every client");
    let (worker_connection, worker) = serving.await.expect("the task does not panic");
    Connected { client, worker, worker_connection }
}

fn settings() -> Settings {
    Settings::default().with_max_message_size(1024 * 1024)
}

/// Yields until every task waits for time to pass or for the test.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

/// Awaits a future; panics after one hour of paused time, so that no test hangs.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(3600);
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => panic!("timed out waiting for {what}"),
    }
}

/// Awaits a spawned task, and returns its output.
async fn join<T>(what: &str, task: impl Future<Output = Result<T, JoinError>>) -> T {
    soon(what, task).await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Locks a mutex that a test shares with functions or callbacks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

/// Reads a pipe to its end. Returns its elements and the error that ended it, if any.
async fn read_all<T: Send + 'static>(mut pipe: super::Pipe<T>) -> (Vec<T>, Option<PipeErrorKind>) {
    let mut elements = Vec::new();
    while let Some(next) = soon("an element or the end of the pipe", pipe.next()).await {
        match next {
            Ok(element) => elements.push(element),
            Err(error) => return (elements, Some(error.kind().clone())),
        }
    }
    (elements, None)
}

/// Reads a pipe that must end without an error.
async fn read_to_end<T: Send + 'static>(pipe: super::Pipe<T>) -> Vec<T> {
    let (elements, error) = read_all(pipe).await;
    assert_eq!(error, None);
    elements
}

fn error_kind<T>(result: Result<T, PipeError>) -> Option<PipeErrorKind> {
    result.err().map(|it| it.kind().clone())
}
