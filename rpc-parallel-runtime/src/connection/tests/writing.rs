//! Who writes frames: whoever says them, as far as there is room, and the driver.

use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;

use super::peer::{Peer, frame};
use crate::connection::outbox::{Outbox, Writing};
use crate::connection::sending::Lane;
use crate::connection::traffic::Traffic;
use crate::transport::Reader;
use crate::transport::memory::pair;
use crate::wire::{FunctionId, Large, MAX_FRAGMENT_LEN, MessageWriter, TooLarge};

/// A frame that is longer than there is room for.
fn long(kind: u8) -> Vec<u8> {
    frame(kind, &[&[7; 20]])
}

fn large() -> Large {
    let mut buffer = Vec::new();
    let writer = MessageWriter::one_way(&mut buffer, FunctionId(7), usize::MAX);
    let written = writer.message(|sink| {
        sink.write_all(&[7; 2 * MAX_FRAGMENT_LEN]).expect("a sink takes everything");
        Ok::<_, TooLarge>(())
    });
    written.expect("nothing is too large").finish().expect("it is large")
}

/// Makes an outbox over a transport with room for seven bytes.
fn outbox() -> (Outbox, Writing, Peer, Box<dyn Reader>) {
    let (here, there) = pair(7);
    let (reader, writer) = here;
    let outbox = Outbox::new(Box::new(writer), Traffic::here());
    (outbox, Writing::default(), Peer::new(there), Box::new(reader))
}

/// Writes everything while it is read, and returns the kinds of the frames.
async fn written(outbox: Outbox, mut writing: Writing, mut peer: Peer) -> Vec<u8> {
    let read = tokio::spawn(async move { peer.hear_all().await });
    let written = poll_fn(|cx| writing.poll_write(&outbox, cx)).await;
    written.expect("memory does not fail");
    outbox.end();
    read.await.expect("nothing panics").iter().map(|it| it[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_part_does_not_go_between_the_halves_of_a_frame() {
    let (outbox, mut writing, peer, _reader) = outbox();
    poll_fn(|cx| writing.poll_write(&outbox, cx)).await.expect("there is nothing to write");
    outbox.add_large(large(), Lane::Any, Vec::new());

    outbox.write_now(&long(77), Lane::Any);

    let mut kinds = written(outbox, writing, peer).await;
    kinds.dedup();
    assert_eq!(kinds, [77, 12, 13]);
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_the_driver_does_not_go_between_the_halves_of_another() {
    let (outbox, mut writing, peer, _reader) = outbox();
    writing.buffer().extend_from_slice(&long(78));

    outbox.write_now(&long(77), Lane::Any);
    outbox.write_now(&long(79), Lane::Any);

    assert_eq!(written(outbox, writing, peer).await, [77, 78, 79]);
}

#[tokio::test(start_paused = true)]
async fn a_frame_does_not_go_between_the_halves_of_one_of_the_driver() {
    let (outbox, mut writing, peer, _reader) = outbox();
    writing.buffer().extend_from_slice(&long(78));
    let waits = poll_fn(|cx| Poll::Ready(writing.poll_write(&outbox, cx).is_pending())).await;
    assert!(waits, "there is no room for it");

    outbox.write_now(&long(77), Lane::Any);

    assert_eq!(written(outbox, writing, peer).await, [78, 77]);
}
