//! The order in which frames are sent, and the tasks that wait until they are.

use std::iter;
use std::time::Instant;

use super::content;
use super::{Task, limits};
use crate::protocol::lane::Ticket;
use crate::protocol::machine::{Machine, Side};
use crate::protocol::outgoing::{FULL, Outgoing};
use crate::protocol::reassembly::MAX_TRANSFERS;
use crate::protocol::transmit::Transmit;
use crate::protocol::waiting_line::Line;
use crate::wire::{Large, MAX_FRAGMENT_LEN, StreamId, Unsent};

const BEGIN: u8 = 12;
const FRAGMENT: u8 = 13;
const ABANDON: u8 = 14;

/// Encodes a frame of its kind alone, with `len` bytes.
fn frame(kind: u8, len: usize) -> Vec<u8> {
    let length = (len as u32 + 1).to_le_bytes();
    [&length[..], &[kind], &vec![7; len]].concat()
}

/// Makes a large frame.
fn large(len: usize) -> Large {
    let Unsent::Large(frame) = content::one_way(7, len) else { panic!("the frame is small") };
    *frame
}

/// Makes a large element.
fn large_element(stream: StreamId, len: usize) -> Large {
    let (_, large, _) = content::elements(stream, 0, 1, len);
    large.expect("the element is large")
}

/// Adds a frame of a stream behind one that is written.
fn add_elements(outgoing: &mut Outgoing<Task>, stream: StreamId, frame: Vec<u8>) -> Ticket {
    let added = outgoing.add_elements(stream, frame, 0, Instant::now(), &mut Vec::new());
    if let Some(transmit) = added.transmit {
        // Given back as it is, so that the frame counts as queued.
        outgoing.take_back(transmit, &mut Vec::new());
    }
    added.ticket
}

/// Takes the next transmit, and gives it back as written.
fn next(outgoing: &mut Outgoing<Task>) -> Option<Vec<u8>> {
    let mut transmit = outgoing.transmit(&mut Vec::new())?;
    let bytes = bytes(&transmit);
    transmit.skip();
    outgoing.take_back(transmit, &mut Vec::new());
    Some(bytes)
}

/// Writes everything in pieces of `len` bytes.
fn write_all(outgoing: &mut Outgoing<Task>, len: usize) -> Vec<u8> {
    let mut written = Vec::new();
    while let Some(mut transmit) = outgoing.transmit(&mut Vec::new()) {
        write(&mut transmit, len, &mut written);
        outgoing.take_back(transmit, &mut Vec::new());
    }
    written
}

fn write(transmit: &mut Transmit, len: usize, written: &mut Vec<u8>) {
    let bytes = bytes(transmit);
    let len = len.min(bytes.len());
    written.extend_from_slice(&bytes[..len]);
    transmit.advance(len);
}

fn bytes(transmit: &Transmit) -> Vec<u8> {
    transmit.segments().map(|it| it.to_vec()).concat()
}

/// Splits bytes into frames without their length.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let next = || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (frame, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        bytes = rest;
        Some(frame)
    };
    iter::from_fn(next).collect()
}

fn kinds(bytes: &[u8]) -> Vec<u8> {
    frames(bytes).iter().map(|it| it[0]).collect()
}

/// Returns the numbers of the transfers whose fragments are handed out, in order.
fn transfers(outgoing: &mut Outgoing<Task>) -> Vec<u8> {
    let bytes = iter::from_fn(|| next(outgoing)).collect::<Vec<_>>().concat();
    let fragments = frames(&bytes).into_iter().filter(|it| [BEGIN, FRAGMENT].contains(&it[0]));
    fragments.map(|it| it[1]).collect()
}

#[test]
fn frames_do_not_split_partly_written_frame() {
    let mut outgoing = Outgoing::<Task>::new();
    let (mut transmit, mut written) = (outgoing.transmit_frame(frame(77, 20)), Vec::new());
    write(&mut transmit, 7, &mut written);
    outgoing.add_messages(&frame(78, 20));
    outgoing.take_back(transmit, &mut Vec::new());
    outgoing.add_large(large(2 * MAX_FRAGMENT_LEN), Vec::new());
    outgoing.add_messages(&frame(79, 20));

    written.extend(write_all(&mut outgoing, 7));

    let mut kinds = kinds(&written);
    kinds.dedup();
    assert_eq!(kinds, [77, 78, 79, BEGIN, FRAGMENT]);
}

#[test]
fn frame_does_not_split_partly_written_fragment() {
    let mut outgoing = Outgoing::<Task>::new();
    outgoing.add_large(large(MAX_FRAGMENT_LEN), Vec::new());
    let (transmit, mut written) = (outgoing.transmit(&mut Vec::new()), Vec::new());
    let mut transmit = transmit.expect("a large frame is queued");
    write(&mut transmit, 1000, &mut written);
    outgoing.take_back(transmit, &mut Vec::new());
    outgoing.add_messages(&frame(77, 20));

    written.extend(write_all(&mut outgoing, 1000));

    assert_eq!(kinds(&written), [BEGIN, 77, FRAGMENT]);
}

#[test]
fn torn_transmit_is_handed_out_first() {
    let mut outgoing = Outgoing::<Task>::new();
    let mut transmit = outgoing.transmit_frame(frame(77, 20));
    assert!(outgoing.transmit(&mut Vec::new()).is_none(), "a transmit is handed out");
    transmit.advance(7);
    outgoing.take_back(transmit, &mut Vec::new());
    assert!(!outgoing.is_idle());

    let rest = outgoing.transmit(&mut Vec::new()).expect("a part of the frame is not written");

    assert_eq!(bytes(&rest), frame(77, 20)[7..]);
}

#[test]
fn frames_added_after_end_are_dropped_and_do_not_wait() {
    let (mut outgoing, mut woken) = (Outgoing::new(), Vec::new());
    outgoing.end(&mut woken);

    let tickets = [
        outgoing.add_messages(&frame(77, 2 * FULL)),
        outgoing.add_one_way(frame(77, 20), vec![StreamId(1)]),
        outgoing.add_large(large(MAX_FRAGMENT_LEN), vec![StreamId(3)]),
        outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), vec![StreamId(5)]),
        add_elements(&mut outgoing, StreamId(7), frame(8, 20)),
        outgoing.add_large_element(StreamId(7), large(MAX_FRAGMENT_LEN), 0),
        outgoing.add_control(StreamId(7), &frame(9, 8)),
    ];

    assert_eq!(tickets, [Ticket::Dropped; 7]);
    assert!(outgoing.is_written(Ticket::Dropped, &Task(0)));
    assert!(outgoing.has_room() && !outgoing.is_full() && outgoing.is_idle());
    assert!(outgoing.transmit(&mut Vec::new()).is_none());
    assert_eq!(outgoing.leftovers().map(|(_, count)| count), [0; 6]);
}

#[test]
fn end_wakes_tasks_that_wait_until_frames_are_written() {
    let (mut outgoing, mut woken) = (Outgoing::new(), Vec::new());
    let tickets = [
        outgoing.add_messages(&frame(77, 20)),
        outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new()),
        outgoing.add_one_way(frame(77, 20), Vec::new()),
    ];
    for (ticket, task) in tickets.into_iter().zip(0..) {
        assert!(!outgoing.is_written(ticket, &Task(task)));
    }

    outgoing.end(&mut woken);

    assert_eq!(woken, [Task(0), Task(1), Task(2)]);
    assert!(tickets.into_iter().all(|it| outgoing.is_written(it, &Task(0))));
}

#[test]
fn large_frames_take_turns() {
    let mut outgoing = Outgoing::new();
    outgoing.add_large(large(3 * MAX_FRAGMENT_LEN), Vec::new());
    outgoing.add_large(large(3 * MAX_FRAGMENT_LEN), Vec::new());

    assert_eq!(transfers(&mut outgoing), [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
fn one_way_call_stays_behind_large_one() {
    let mut outgoing = Outgoing::new();
    outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new());
    outgoing.add_one_way(frame(78, 20), Vec::new());
    outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new());
    outgoing.add_messages(&frame(77, 20));

    let written = write_all(&mut outgoing, usize::MAX);

    let mut kinds = kinds(&written);
    kinds.dedup();
    assert_eq!(kinds, [77, BEGIN, FRAGMENT, 78, BEGIN, FRAGMENT]);
}

#[test]
fn elements_wait_for_one_way_call_that_opens_their_stream() {
    let (mut outgoing, stream) = (Outgoing::new(), StreamId(1));
    outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new());
    outgoing.add_one_way(frame(78, 20), vec![stream]);
    add_elements(&mut outgoing, stream, frame(8, 20));
    outgoing.add_control(stream, &frame(9, 8));

    let written = write_all(&mut outgoing, usize::MAX);

    assert_eq!(kinds(&written), [BEGIN, FRAGMENT, 78, 8, 9]);
}

#[test]
fn ticket_stays_written_when_its_lane_is_used_again() {
    let (mut outgoing, mut woken) = (Outgoing::new(), Vec::new());
    for _ in 0..3 {
        outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new());
    }
    let ticket = outgoing.add_one_way(frame(78, 20), Vec::new());
    assert!(!outgoing.is_written(ticket, &Task(1)));
    write_all(&mut outgoing, usize::MAX);
    outgoing.add_large_one_way(large(MAX_FRAGMENT_LEN), Vec::new());

    assert!(outgoing.is_written(ticket, &Task(1)));
    outgoing.end(&mut woken);
}

#[test]
fn streams_share_by_turns() {
    let (mut outgoing, streams) = (Outgoing::new(), [1, 3].map(StreamId));
    outgoing.add_messages(&frame(77, 0));
    for stream in streams {
        for _ in 0..8 {
            add_elements(&mut outgoing, stream, frame(stream.0 as u8, 8 * 1024));
        }
    }
    next(&mut outgoing);

    let written = write_all(&mut outgoing, usize::MAX);

    let mut kinds = kinds(&written);
    for stream in [1, 3] {
        let sent = kinds.iter().position(|it| *it == stream).expect("both streams have a turn");
        assert!(sent <= 2, "a stream waits for two turns of the other");
    }
    kinds.dedup();
    assert!(kinds.len() >= 8, "turns are too long: {kinds:?}");
}

#[test]
fn urgent_frame_passes_64_mib_of_a_stream() {
    let (mut outgoing, stream) = (Outgoing::new(), StreamId(1));
    for _ in 0..64 {
        outgoing.add_large_element(stream, large_element(stream, 1024 * 1024 - 100), 0);
    }
    for _ in 0..3 {
        next(&mut outgoing);
        outgoing.add_messages(&frame(77, 20));

        let transmit = next(&mut outgoing).expect("frames are queued");

        assert_eq!(kinds(&transmit), [77, FRAGMENT]);
        assert!(transmit.len() < 17 * 1024, "the turn has {} bytes", transmit.len());
    }
}

#[test]
fn at_most_16_large_frames_are_sent_at_the_same_time() {
    let mut outgoing = Outgoing::new();
    for _ in 0..2 * MAX_TRANSFERS {
        outgoing.add_large(large(2 * MAX_FRAGMENT_LEN), Vec::new());
    }

    let transfers = transfers(&mut outgoing);

    assert_eq!(transfers.len(), 2 * MAX_TRANSFERS * 3);
    for (at, id) in transfers.iter().enumerate() {
        let begun = transfers[..at].iter().max().copied().unwrap_or_default();
        let open = (1..=begun).filter(|it| transfers[at..].contains(it)).count();
        assert!(open <= MAX_TRANSFERS, "{open} large frames are open before one of {id}");
    }
}

#[test]
fn large_frame_that_waits_is_sent_after_all_others_are_cancelled() {
    let (mut outgoing, mut woken) = (Outgoing::<Task>::new(), Vec::new());
    let add = |_| outgoing.add_large(large(2 * MAX_FRAGMENT_LEN), Vec::new());
    let tickets: Vec<_> = (0..=2 * MAX_TRANSFERS).map(add).collect();
    for _ in 0..=MAX_TRANSFERS {
        next(&mut outgoing);
    }

    for ticket in &tickets[..2 * MAX_TRANSFERS] {
        assert!(outgoing.abandon(*ticket, &mut woken).is_some());
    }

    let written = write_all(&mut outgoing, usize::MAX);
    let mut kinds = kinds(&written);
    kinds.dedup();
    assert_eq!(kinds, [ABANDON, BEGIN, FRAGMENT]);
    assert_eq!(outgoing.leftovers().map(|(_, count)| count), [0; 6]);
}

#[test]
fn dropped_stream_abandons_its_large_element() {
    let (mut outgoing, stream) = (Outgoing::<Task>::new(), StreamId(1));
    outgoing.add_large_element(stream, large_element(stream, 2 * MAX_FRAGMENT_LEN), 0);
    let ticket = add_elements(&mut outgoing, stream, frame(8, 20));
    assert!(!outgoing.is_written(ticket, &Task(1)));
    next(&mut outgoing);
    let mut woken = Vec::new();

    outgoing.drop_frames(stream, &mut woken);

    assert_eq!(woken, [Task(1)]);
    assert_eq!(kinds(&write_all(&mut outgoing, usize::MAX)), [ABANDON]);
    assert_eq!(outgoing.leftovers().map(|(_, count)| count), [0; 6]);
}

#[test]
fn each_of_100_000_waiting_calls_is_woken_once() {
    const CALLS: u32 = 100_000;
    let mut machine = Machine::new(Side::Calling, limits());
    machine.send_call(Unsent::Small(frame(4, FULL)), &[], false);
    let mut places: Vec<_> = (0..CALLS)
        .map(|task| {
            let mut place = None;
            assert!(!machine.has_room(Line::Calls, &mut place, &Task(task)));
            place
        })
        .collect();

    let mut admitted = Vec::new();
    while let Some(mut transmit) = machine.transmit() {
        transmit.skip();
        machine.take_back(transmit);
        let mut woken = machine.take_woken();
        while let Some(task) = woken.pop() {
            assert!(machine.has_room(Line::Calls, &mut places[task.0 as usize], &task));
            admitted.push(task.0);
            woken.extend(machine.take_woken());
        }
    }

    admitted.sort_unstable();
    assert_eq!(admitted, Vec::from_iter(0..CALLS));
}

#[test]
fn calls_that_were_sent_before_do_not_shorten_turns() {
    let mut outgoing = Outgoing::<Task>::new();
    outgoing.add_messages(&frame(4, 10));
    next(&mut outgoing).expect("the call is queued");

    outgoing.add_large(large(MAX_FRAGMENT_LEN * 3), Vec::new());
    let mut turn = outgoing.transmit(&mut Vec::new()).expect("the large call is queued");
    let before = turn.prefers_latency();
    turn.skip();
    outgoing.take_back(turn, &mut Vec::new());
    outgoing.add_messages(&frame(4, 10));
    let turn = outgoing.transmit(&mut Vec::new()).expect("both calls are queued");

    assert_eq!([before, turn.prefers_latency()], [false, true]);
}

/// With a search among all lanes for each, this takes minutes.
#[test]
fn frames_of_100_000_streams_are_dropped() {
    let mut outgoing = Outgoing::<Task>::new();
    let streams = (1..=100_000).map(StreamId);
    for stream in streams.clone() {
        add_elements(&mut outgoing, stream, frame(8, 10));
    }

    for stream in streams.rev() {
        outgoing.drop_frames(stream, &mut Vec::new());
    }

    while next(&mut outgoing).is_some() {}
    assert_eq!(outgoing.leftovers().map(|(_, count)| count), [0; 6]);
}
