//! Received chunks of a stream: their elements are decoded in groups of bounded memory.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::peer::{PIPE, Peer, SENDER, accept_as_worker, answer, end, items, kind};
use super::{join, lock, read_all, read_to_end, settle, soon};
use crate::connection::client::Client;
use crate::connection::scripted::{call, function};
use crate::connection::{CloseReason, Pipe, PipeErrorKind, PipeEvent};
use crate::wire::FunctionInfo;

/// Returns a pipe.
const OPEN: &FunctionInfo = &function("open");

/// The id of a client's first call.
const FIRST: u64 = 1 << 32;
/// The id of the stream that the worker opens.
const STREAM: u64 = 2;

const NIL: u8 = 0xc0;
/// A byte that begins no value.
const INVALID: u8 = 0xc1;

/// The number of elements of a chunk: 40 MB, if all are decoded at once.
const COUNT: u32 = 10_000;
const WIDE: usize = 4096;

thread_local! {
    /// How many [`Wide`] values this thread has decoded.
    static DECODED: Cell<usize> = const { Cell::new(0) };
}

/// A value that is one byte long while it travels.
struct Wide([u8; WIDE]);

impl Serialize for Wide {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        DECODED.set(DECODED.get() + 1);
        Ok(Self([7; WIDE]))
    }
}

/// Opens a pipe that the peer writes. The peer has sent these elements in one frame.
async fn opened(count: u32, elements: &[u8]) -> (Peer, Client, Pipe<Wide>) {
    let (mut peer, client) = accept_as_worker().await;
    let pipe = tokio::spawn(call::<_, Pipe<Wide>>(&client, OPEN, ()));
    assert_eq!(peer.receive().await.map(|it| it[0]), Some(kind::CALL));
    peer.send(&answer(FIRST, PIPE, &[(STREAM, SENDER, 100_000)]));
    peer.send(&items(STREAM, count, elements));
    let pipe = join("the call", pipe).await.expect("the call succeeds");
    (peer, client, pipe)
}

#[tokio::test(start_paused = true)]
async fn elements_of_large_type_are_decoded_in_groups() {
    let (peer, _client, mut pipe) = opened(COUNT, &[NIL; COUNT as usize]).await;

    let first = soon("an element", pipe.next()).await.expect("the pipe has not ended");

    assert_eq!(first.expect("the element is valid").0[WIDE - 1], 7);
    let decoded = DECODED.get() * WIDE;
    assert!(decoded <= 256 * 1024, "{decoded} bytes are decoded");
    peer.send(&end(STREAM));
    assert_eq!(read_to_end(pipe).await.len(), COUNT as usize - 1);
}

#[tokio::test(start_paused = true)]
async fn elements_before_undecodable_one_of_later_group_are_read() {
    let mut elements = [NIL; COUNT as usize];
    elements[5000] = INVALID;
    let (_peer, _client, pipe) = opened(COUNT, &elements).await;

    let (elements, error) = read_all(pipe).await;

    assert_eq!(elements.len(), 5000);
    assert!(matches!(error, Some(PipeErrorKind::Undecodable { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_after_elements_of_last_group_are_error() {
    let (_peer, _client, pipe) = opened(COUNT - 1, &[NIL; COUNT as usize]).await;

    let (elements, error) = read_all(pipe).await;

    assert_eq!(elements.len(), COUNT as usize - 1);
    assert!(matches!(error, Some(PipeErrorKind::Undecodable { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn callback_receives_groups_that_are_not_decoded_yet() {
    let (peer, _client, mut pipe) = opened(COUNT, &[NIL; COUNT as usize]).await;
    let first = soon("an element", pipe.next()).await;
    assert!(first.is_some_and(|it| it.is_ok()));
    let (received, closed) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(None)));
    let (count, reason) = (received.clone(), closed.clone());

    pipe.for_each_direct(move |event| match event {
        PipeEvent::Element(Wide(_)) => *lock(&count) += 1,
        PipeEvent::Closed(why) => *lock(&reason) = Some(why),
    });

    peer.send(&end(STREAM));
    settle().await;
    assert_eq!(*lock(&received), COUNT - 1);
    assert_eq!(*lock(&closed), Some(CloseReason::ByWriter));
}

#[tokio::test(start_paused = true)]
async fn callback_receives_error_behind_element_that_was_read() {
    let (peer, _client, mut pipe) = opened(2, &[NIL, INVALID]).await;
    let first = soon("an element", pipe.next()).await;
    assert!(first.is_some_and(|it| it.is_ok()));
    let closed = Arc::new(Mutex::new(None));
    let reason = closed.clone();

    pipe.for_each_direct(move |event| match event {
        PipeEvent::Element(Wide(_)) => panic!("the second element is invalid"),
        PipeEvent::Closed(why) => *lock(&reason) = Some(why),
    });

    peer.send(&end(STREAM));
    settle().await;
    let Some(CloseReason::Error(error)) = &*lock(&closed) else { panic!("{closed:?}") };
    assert!(matches!(error.kind(), PipeErrorKind::Undecodable { .. }), "{error}");
}
