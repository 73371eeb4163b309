//! Waiting with a time limit, after which a test fails and names the waiting line.

use std::panic::Location;
use std::sync::Arc;

use rpc_parallel::prelude::*;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::process::TEST_TIMEOUT;

/// Waits for a future that should resolve at once.
///
/// # Panics
///
/// Panics if it does not resolve in time.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let output = timeout(TEST_TIMEOUT, future).await;
        output.unwrap_or_else(|_| panic!("{caller}: not resolved within {TEST_TIMEOUT:?}"))
    }
}

/// Reads a pipe to its end: its elements, and the error if it ended with one.
///
/// # Panics
///
/// Panics if the pipe does not end in time, or if an element follows its error.
#[track_caller]
pub fn read<T>(mut pipe: Pipe<T>) -> impl Future<Output = (Vec<T>, Option<PipeError>)>
where
    T: Send + 'static,
{
    let caller = Location::caller();
    let reading = async move {
        let mut elements = Vec::new();
        loop {
            match pipe.next().await {
                Some(Ok(element)) => elements.push(element),
                Some(Err(error)) => {
                    assert!(
                        pipe.next().await.is_none(),
                        "{caller}: the pipe goes on after {error}"
                    );
                    return (elements, Some(error));
                }
                None => return (elements, None),
            }
        }
    };
    soon(reading)
}

/// Reads a pipe that ends without an error.
///
/// # Panics
///
/// Panics if the pipe does not end in time, or ends with an error.
#[track_caller]
pub fn elements<T>(pipe: Pipe<T>) -> impl Future<Output = Vec<T>>
where
    T: Send + 'static,
{
    let caller = Location::caller();
    let reading = read(pipe);
    async move {
        match reading.await {
            (elements, None) => elements,
            (elements, Some(error)) => {
                panic!("{caller}: {error}, after {} elements", elements.len())
            }
        }
    }
}

/// Reads a pipe that ends with an error: its elements and the error.
///
/// # Panics
///
/// Panics if the pipe does not end in time, or ends without an error.
#[track_caller]
pub fn read_error<T>(pipe: Pipe<T>) -> impl Future<Output = (Vec<T>, PipeError)>
where
    T: Send + 'static,
{
    let caller = Location::caller();
    let reading = read(pipe);
    async move {
        match reading.await {
            (elements, Some(error)) => (elements, error),
            (elements, None) => {
                panic!("{caller}: no error after {} elements", elements.len())
            }
        }
    }
}

/// A list of events that a worker or a test has noted. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<watch::Sender<Vec<String>>>);

impl Events {
    /// Notes an event.
    pub fn note(&self, event: impl Into<String>) {
        self.0.send_modify(|it| it.push(event.into()));
    }

    /// Returns a value that notes an event when it is dropped.
    #[must_use]
    pub fn note_on_drop(&self, event: impl Into<String>) -> NoteOnDrop {
        NoteOnDrop { events: self.clone(), event: event.into() }
    }

    /// Waits until this event has been noted.
    pub async fn happened(&self, event: &str) {
        self.find(|it| it == event).await;
    }

    /// Waits until an event that begins with this text has been noted, and returns it.
    pub async fn begins_with(&self, beginning: &str) -> String {
        self.find(|it| it.starts_with(beginning)).await
    }

    async fn find(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = self.0.subscribe();
        let find = |events: &[String]| events.iter().find(|it| wanted(it)).cloned();
        let events = seen.wait_for(|it| find(it).is_some()).await.expect("`self` is the sender");
        find(&events).expect("the condition has just been true")
    }

    /// Returns all noted events in their order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// Notes an event when it is dropped.
#[derive(Debug)]
pub struct NoteOnDrop {
    events: Events,
    event: String,
}

impl Drop for NoteOnDrop {
    fn drop(&mut self) {
        self.events.note(std::mem::take(&mut self.event));
    }
}
