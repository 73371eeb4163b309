//! Whole connections in memory, with time that stands still unless it is waited for.

mod opening;
mod calls;
mod one_way;
mod streams;
mod direct;
mod transfers;
mod cancelling;
mod deadlines;
mod spans;
mod writing;
mod faulty;
mod faults;
mod restart;
mod peer;
mod violations;
mod model;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};

use super::client::Client;
use super::scripted::{Functions, client, opening};
use super::shared::Connection;
use super::{PipeError, PipeErrorKind, Serving, ServingError};
use crate::transport::memory::pair;
use crate::wire::Settings;

/// Two ends of one connection.
struct Connected {
    client: Client,
    /// The driver of the end that answers.
    worker: JoinHandle<Result<(), ServingError>>,
    there: Arc<Connection>,
}

impl Connected {
    fn here(&self) -> Arc<Connection> {
        self.client.connection()
    }

    /// Fails unless both ends have forgotten every stream.
    fn assert_no_streams(&self) {
        let open = (self.here().open_streams(), self.there.open_streams());
        assert_eq!(open, (0, 0), "streams are left");
        let counted = [&self.here(), &self.there].map(|it| it.traffic().counts().open_pipes);
        assert_eq!(counted, [0, 0], "streams are counted");
    }
}

/// Connects a client to functions over transports with room for `capacity` bytes each.
async fn connected(capacity: usize, functions: Functions) -> Connected {
    connected_with(capacity, settings(), functions).await
}

async fn connected_with(capacity: usize, settings: Settings, functions: Functions) -> Connected {
    let (here, there) = pair(capacity);
    let mut opening = opening(there, settings);
    let serving = tokio::spawn(async move {
        opening.receive_request().await.expect("the client asks at once");
        let serving = Serving::welcome(opening, Arc::new(functions));
        (serving.connection(), tokio::spawn(serving.run()))
    });
    let client = client(here, settings).await;
    let (there, worker) = serving.await.expect("nothing panics");
    Connected { client, worker, there }
}

fn settings() -> Settings {
    Settings::default().with_max_message_size(1024 * 1024)
}

/// Lets everybody do all that they can without waiting for time to pass.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

/// Fails instead of waiting for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(3600);
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// Reads a pipe to its end: its elements, and why it broke if it did.
async fn read_all<T: Send + 'static>(mut pipe: super::Pipe<T>) -> (Vec<T>, Option<PipeErrorKind>) {
    let mut elements = Vec::new();
    while let Some(next) = soon("a pipe that is read", pipe.next()).await {
        match next {
            Ok(element) => elements.push(element),
            Err(error) => return (elements, Some(error.kind().clone())),
        }
    }
    (elements, None)
}

/// Reads a pipe that must come to a good end.
async fn read_well<T: Send + 'static>(pipe: super::Pipe<T>) -> Vec<T> {
    let (elements, error) = read_all(pipe).await;
    assert_eq!(error, None);
    elements
}

fn kind_of<T>(result: Result<T, PipeError>) -> Option<PipeErrorKind> {
    result.err().map(|it| it.kind().clone())
}
