//! Frames on their way to the transport: callers write them at once as far as the transport has
//! room, the driver writes the rest, and no frame is split by another.

use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;

use super::peer::{Peer, frame, kind};
use super::soon;
use crate::connection::outbox::{Outbox, Ticket, Writing};
use crate::connection::sending::SendOrder;
use crate::connection::traffic::Traffic;
use crate::transport::Reader;
use crate::transport::memory::pair;
use crate::wire::{FunctionId, Large, MAX_FRAGMENT_LEN, MessageWriter, TooLarge};

/// Encodes a frame that is longer than the transport's capacity.
fn long(kind: u8) -> Vec<u8> {
    frame(kind, &[&[7; 20]])
}

fn large() -> Large {
    let mut buffer = Vec::new();
    let writer = MessageWriter::one_way(&mut buffer, FunctionId(7), usize::MAX);
    let written = writer.message(|sink| {
        sink.write_all(&[7; 2 * MAX_FRAGMENT_LEN]).expect("the sink has no limit");
        Ok::<_, TooLarge>(())
    });
    written.expect("the message has no limit").finish().expect("the frame is a large one")
}

/// Makes an outbox over a transport with a capacity of seven bytes.
fn outbox() -> (Outbox, Writing, Peer, Box<dyn Reader>) {
    let ((reader, writer), peer) = pair(7);
    let outbox = Outbox::new(Box::new(writer), Traffic::here());
    (outbox, Writing::default(), Peer::new(peer), Box::new(reader))
}

/// Writes all frames while the peer reads them, and returns their kinds.
async fn write_all(outbox: Outbox, mut writing: Writing, mut peer: Peer) -> Vec<u8> {
    let reading = tokio::spawn(async move { peer.receive_all().await });
    let written = poll_fn(|cx| writing.poll_write(&outbox, cx)).await;
    written.expect("a transport in memory does not fail");
    outbox.end();
    reading.await.expect("the task does not panic").iter().map(|it| it[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn fragment_does_not_split_partly_written_frame() {
    let (outbox, mut writing, peer, _reader) = outbox();
    poll_fn(|cx| writing.poll_write(&outbox, cx)).await.expect("the outbox is empty");
    outbox.add_large(large(), SendOrder::Any, Vec::new());

    outbox.write_now(&long(77), SendOrder::Any);

    let mut kinds = write_all(outbox, writing, peer).await;
    kinds.dedup();
    assert_eq!(kinds, [77, kind::BEGIN, kind::FRAGMENT]);
}

#[tokio::test(start_paused = true)]
async fn driver_frame_does_not_split_partly_written_frame() {
    let (outbox, mut writing, peer, _reader) = outbox();
    writing.buffer().extend_from_slice(&long(78));

    outbox.write_now(&long(77), SendOrder::Any);
    outbox.write_now(&long(79), SendOrder::Any);

    assert_eq!(write_all(outbox, writing, peer).await, [77, 78, 79]);
}

#[tokio::test(start_paused = true)]
async fn caller_frame_does_not_split_partly_written_driver_frame() {
    let (outbox, mut writing, peer, _reader) = outbox();
    writing.buffer().extend_from_slice(&long(78));
    let pending = poll_fn(|cx| Poll::Ready(writing.poll_write(&outbox, cx).is_pending())).await;
    assert!(pending, "the frame is longer than the transport's capacity");

    outbox.write_now(&long(77), SendOrder::Any);

    assert_eq!(write_all(outbox, writing, peer).await, [78, 77]);
}

#[tokio::test(start_paused = true)]
async fn frames_added_after_end_do_not_wait() {
    let (outbox, ..) = outbox();
    outbox.end();

    let tickets = [
        outbox.add_large(large(), SendOrder::OneWay, Vec::new()),
        outbox.add(&long(77), SendOrder::OneWay),
        outbox.write_now(&long(78), SendOrder::OneWay),
    ];

    for ticket in tickets {
        soon("the frame", poll_fn(|cx| outbox.poll_written(ticket, cx))).await;
        assert_ne!(ticket, Ticket::Written, "the frame does not count as sent");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_added_after_end_leave_room() {
    let (outbox, ..) = outbox();
    outbox.end();

    outbox.add(&frame(77, &[&[7; 2 * 1024 * 1024]]), SendOrder::Any);
    for _ in 0..20 {
        outbox.add_large(large(), SendOrder::Any, Vec::new());
    }

    assert!(!outbox.is_full());
    soon("room", poll_fn(|cx| outbox.poll_room(cx))).await;
}
