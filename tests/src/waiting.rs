//! Waiting for what should happen: it happens soon, or the test fails and says where it waited.

use std::panic::Location;
use std::sync::Arc;

use rpc_parallel::prelude::*;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::process::PATIENCE;

/// Waits for what should happen at once.
///
/// # Panics
///
/// It does not happen.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        let happened = timeout(PATIENCE, future).await;
        happened.unwrap_or_else(|_| panic!("{place}: it does not happen within {PATIENCE:?}"))
    }
}

/// Reads a pipe until it ends: its elements, and the error if that was its end.
///
/// # Panics
///
/// It does not end, or not with its error.
#[track_caller]
pub fn read<T>(mut pipe: Pipe<T>) -> impl Future<Output = (Vec<T>, Option<PipeError>)>
where
    T: Send + 'static,
{
    let place = Location::caller();
    let reading = async move {
        let mut elements = Vec::new();
        loop {
            match pipe.next().await {
                Some(Ok(element)) => elements.push(element),
                Some(Err(error)) => {
                    assert!(pipe.next().await.is_none(), "{place}: {error} is not the end");
                    return (elements, Some(error));
                }
                None => return (elements, None),
            }
        }
    };
    soon(reading)
}

/// Reads a pipe that ends as it should.
///
/// # Panics
///
/// It does not end, or with an error.
#[track_caller]
pub fn elements<T>(pipe: Pipe<T>) -> impl Future<Output = Vec<T>>
where
    T: Send + 'static,
{
    let place = Location::caller();
    let reading = read(pipe);
    async move {
        match reading.await {
            (elements, None) => elements,
            (elements, Some(error)) => {
                panic!("{place}: {error}, after {} elements", elements.len())
            }
        }
    }
}

/// What has happened in a worker, for those who wait for it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<watch::Sender<Vec<String>>>);

impl Events {
    /// Notes that something has happened.
    pub fn note(&self, event: impl Into<String>) {
        self.0.send_modify(|it| it.push(event.into()));
    }

    /// Notes something when what is returned is dropped.
    #[must_use]
    pub fn note_at_end(&self, event: impl Into<String>) -> NoteAtEnd {
        NoteAtEnd { events: self.clone(), event: event.into() }
    }

    /// Waits until something has happened.
    pub async fn happened(&self, event: &str) {
        self.find(|it| it == event).await;
    }

    /// Waits until something has happened that begins in this way, and returns it.
    pub async fn begins_with(&self, beginning: &str) -> String {
        self.find(|it| it.starts_with(beginning)).await
    }

    async fn find(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = self.0.subscribe();
        let find = |events: &[String]| events.iter().find(|it| wanted(it)).cloned();
        let events = seen.wait_for(|it| find(it).is_some()).await.expect("the sender is here");
        find(&events).expect("it was there when the waiting ended")
    }

    /// Returns all that has happened.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// Notes that it is dropped.
#[derive(Debug)]
pub struct NoteAtEnd {
    events: Events,
    event: String,
}

impl Drop for NoteAtEnd {
    fn drop(&mut self) {
        self.events.note(std::mem::take(&mut self.event));
    }
}
