//! One of two ends of a connection without I/O: a machine, and the application that uses it.

mod calls;
mod streams;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::Task;
use super::content::{self, LASTING, MAX};
use super::ledger::Ledger;
use super::order::Order;
use crate::protocol::decoder::Decoder;
use crate::protocol::lane::Ticket;
use crate::protocol::limits::{DirectionLimits, Limits};
use crate::protocol::machine::{Machine, Side};
use crate::protocol::reading::Chunk;
use crate::protocol::streams::Received;
use crate::protocol::transmit::Transmit;
use crate::protocol::waiting_line::Line;
use crate::protocol::waiting_line::Place;
use crate::wire::{CallId, Frame, Opened, StreamId, Streams, WrittenBy, largest_frame};

/// The limits of what the answering end receives, which random steps reach.
const OF_ANSWERING: DirectionLimits = DirectionLimits {
    calls: 6,
    one_way_calls: 3,
    streams: 6,
    window: 5000,
    first_window: 500,
    overdraft: MAX + 1000,
};

/// The limits of what the calling end receives. They differ from those of its peer.
const OF_CALLING: DirectionLimits = DirectionLimits {
    calls: 1,
    one_way_calls: 1,
    streams: 8,
    window: 800,
    first_window: 60,
    overdraft: MAX + 1000,
};

fn limits(side: Side) -> Limits {
    match side {
        Side::Calling => Limits { receive: OF_CALLING, send: OF_ANSWERING },
        Side::Answering => Limits { receive: OF_ANSWERING, send: OF_CALLING },
    }
}

/// A message that an application sends.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) size: usize,
    pub(super) streams: Vec<Stream>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Call,
    /// A call whose function runs to completion.
    Lasting,
    OneWay,
}

impl Kind {
    fn line(self) -> Line {
        match self {
            Self::Call | Self::Lasting => Line::Calls,
            Self::OneWay => Line::OneWay,
        }
    }
}

/// A stream that a message opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) is_written_by_sender: bool,
    pub(super) window: u32,
}

/// What waits for a change of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Waiting {
    InLine(u32),
    Call(u32),
    OneWay(u32),
    Reader(StreamId),
    Writer(StreamId),
    /// Waits until a stream is closed.
    Closed(StreamId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    /// This end has closed the connection, and still writes the queued frames.
    Closing,
    Ended,
}

pub(super) struct End {
    side: Side,
    pub(super) machine: Machine<Task>,
    /// The time of the last step.
    pub(super) clock: Instant,
    /// The number of received one-way calls that run until the other steps are over.
    running_one_ways: u32,
    /// `None` only while received frames are handled.
    decoder: Option<Decoder>,
    pub(super) phase: Phase,
    /// The bytes that are written and not received by the peer.
    pub(super) wire: VecDeque<u8>,
    /// Whether the peer receives nothing any more after the bytes on the wire.
    pub(super) is_cut: bool,
    /// The transmit that is handed out.
    held: Option<Transmit>,
    /// Whether the machine has taken back a transmit that is not written completely.
    is_torn: bool,
    order: Order,
    next: u32,
    tasks: HashMap<Task, Waiting>,
    pub(super) waiting: BTreeMap<Waiting, Task>,
    pub(super) woken: VecDeque<Waiting>,
    in_line: BTreeMap<u32, (Message, Option<Place>)>,
    calls: BTreeMap<u32, Call>,
    one_ways: BTreeMap<u32, Ticket>,
    running: Vec<Running>,
    arrived: HashSet<CallId>,
    readers: BTreeMap<StreamId, Reader>,
    writers: BTreeMap<StreamId, Writer>,
    ended: HashSet<StreamId>,
    /// Whether callbacks run when they are called, and not later.
    pub(super) runs_callbacks: bool,
}

/// A call of this end.
struct Call {
    id: CallId,
    ticket: Ticket,
    kind: Kind,
}

/// A call of the peer.
struct Running {
    id: CallId,
    number: u32,
    lasts: bool,
}

struct Reader {
    callback: Callback,
    /// The cost of the last chunk, if that is not recorded as read.
    owed: usize,
}

#[derive(PartialEq, Eq)]
enum Callback {
    None,
    Idle,
    Running,
}

/// The elements that an application still has to write.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Writer {
    pub(super) count: u32,
    pub(super) together: u32,
    pub(super) size: usize,
}

/// The transport.
impl End {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            machine: Machine::new(side, limits(side)),
            clock: Instant::now(),
            running_one_ways: 0,
            decoder: Some(Decoder::new(MAX)),
            phase: Phase::Open,
            wire: VecDeque::new(),
            is_cut: false,
            held: None,
            is_torn: false,
            order: Order::default(),
            next: 0,
            tasks: HashMap::new(),
            waiting: BTreeMap::new(),
            woken: VecDeque::new(),
            in_line: BTreeMap::new(),
            calls: BTreeMap::new(),
            one_ways: BTreeMap::new(),
            running: Vec::new(),
            arrived: HashSet::new(),
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            ended: HashSet::new(),
            runs_callbacks: true,
        }
    }

    /// Holds a transmit that the machine has handed out.
    fn hold(&mut self, transmit: Option<Transmit>) {
        let Some(transmit) = transmit else { return };
        assert!(self.held.is_none(), "two transmits are handed out at the same time");
        if !self.is_torn {
            self.order.hand_out(&transmit);
        }
        self.held = Some(transmit);
    }

    /// Writes up to `budget` bytes, and gives back the transmit, or keeps it. Returns whether there
    /// was something to write.
    pub(super) fn write(&mut self, mut budget: usize, keeps: bool) -> bool {
        if self.held.is_none() {
            self.machine.note_driver();
            let transmit = self.machine.transmit();
            self.hold(transmit);
        }
        let Some(transmit) = &mut self.held else { return false };
        for _ in 0..2 {
            let [first, second] = transmit.segments();
            let segment = if first.is_empty() { second } else { first };
            let len = segment.len().min(budget);
            if !self.is_cut {
                self.wire.extend(&segment[..len]);
            }
            transmit.advance(len);
            budget -= len;
        }
        if !keeps {
            self.give_back();
        }
        self.collect();
        true
    }

    fn give_back(&mut self) {
        let Some(transmit) = self.held.take() else { return };
        self.is_torn = !transmit.is_written() && self.phase != Phase::Ended;
        let is_written = transmit.is_written();
        self.machine.take_back(transmit);
        if is_written {
            for ticket in self.order.take_due() {
                let is_written = self.machine.is_written(ticket, &Task(u32::MAX));
                assert!(is_written, "a small message was not in the next transmit");
            }
        }
    }

    /// Receives up to `len` bytes from a wire. Returns whether there were any.
    pub(super) fn receive(
        &mut self,
        wire: &mut VecDeque<u8>,
        len: usize,
        ledger: &mut Ledger,
    ) -> bool {
        if self.phase == Phase::Ended {
            wire.clear();
            return false;
        }
        // While the peer does not read its answers, no calls are read from it.
        if wire.is_empty() || self.side == Side::Answering && self.machine.is_full() {
            return false;
        }
        let mut decoder = self.decoder.take().expect("frames are not handled recursively");
        let mut received = 0;
        for space in decoder.space() {
            let len = space.len().min(wire.len()).min(len - received);
            let (front, back) = wire.as_slices();
            let split = len.min(front.len());
            space[..split].copy_from_slice(&front[..split]);
            space[split..len].copy_from_slice(&back[..len - split]);
            wire.drain(..len);
            received += len;
        }
        decoder.received(received);
        while let Some(frame) = decoder.next_frame().expect("the frames of the peer are valid") {
            if self.phase == Phase::Open {
                self.handle(frame, ledger);
            }
        }
        self.decoder = Some(decoder);
        self.collect();
        true
    }

    /// Closes the connection. Queued frames are still written.
    pub(super) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.running.clear();
            self.machine.lose();
            self.collect();
        }
    }

    /// Ends the connection.
    pub(super) fn end(&mut self) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.is_cut = true;
            self.running.clear();
            self.machine.lose();
            self.machine.end();
            self.collect();
        }
    }

    /// Returns whether everything is written.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_none() && self.machine.is_idle()
    }

    pub(super) fn is_receiving(&self) -> bool {
        self.decoder.as_ref().is_some_and(|it| it.waiting() > 0 || it.is_receiving_large())
    }

    /// Collects what the last changes of the machine notify.
    fn collect(&mut self) {
        for task in self.machine.take_woken() {
            if let Some(waiting) = self.tasks.remove(&task)
                && self.waiting.get(&waiting) == Some(&task)
            {
                self.waiting.remove(&waiting);
                self.woken.push_back(waiting);
            }
        }
        for stream in self.machine.take_deliver() {
            let reader = self.readers.get_mut(&stream).expect("a callback reads the stream");
            assert!(reader.callback == Callback::Idle);
            reader.callback = Callback::Running;
        }
        for stream in self.machine.take_ended() {
            assert!(self.ended.insert(stream), "a stream has ended twice");
        }
        let (kept, allowed) = self.machine.kept(largest_frame(MAX));
        assert!(kept <= allowed, "{kept} bytes are buffered, {allowed} are allowed");
    }

    /// Returns a task for something that waits: a new one, if it does not wait yet or if `renews`.
    fn task(&mut self, waiting: Waiting, renews: bool) -> Task {
        match self.waiting.get(&waiting) {
            Some(known) if !renews => *known,
            _ => {
                self.next += 1;
                let task = Task(self.next);
                self.tasks.insert(task, waiting);
                self.waiting.insert(waiting, task);
                task
            }
        }
    }
}

/// Received frames.
impl End {
    fn handle(&mut self, frame: Frame<'_>, ledger: &mut Ledger) {
        match (frame, self.side) {
            (Frame::Call { call, function, arguments, streams, .. }, Side::Answering) => {
                assert!(self.arrived.insert(call), "a call has arrived twice");
                let number = content::number_of(arguments.bytes());
                self.running.push(Running { id: call, number, lasts: function == LASTING });
                self.accept(streams);
            }
            (Frame::OneWay { arguments, streams, .. }, Side::Answering) => {
                let number = content::number_of(arguments.bytes());
                ledger.receive_one_way(number);
                self.machine.receive_one_way().expect("the peer keeps to the limit");
                self.accept(streams);
                match number % 4 {
                    0 => self.running_one_ways += 1,
                    _ => self.machine.complete_one_way(),
                }
            }
            (Frame::Cancel { call }, Side::Answering) => {
                assert!(self.arrived.contains(&call), "a cancel has overtaken its call");
                let at = self.running.iter().position(|it| it.id == call && !it.lasts);
                if let Some(at) = at {
                    let Running { id, number, .. } = self.running.swap_remove(at);
                    self.send_answer(id, number, 0, &[]);
                }
            }
            (frame, _) => {
                let received = self.machine.handle(frame).expect("the peer keeps the protocol");
                if let Received::Deliver(stream) = received {
                    self.deliver(stream, frame, ledger);
                }
            }
        }
    }

    fn accept(&mut self, streams: Streams<'_>) {
        let opened = self.machine.accept(streams).expect("the peer opens valid streams");
        self.adopt(&opened, WrittenBy::Receiver);
    }

    /// Makes the ends of streams that the application owns.
    fn adopt(&mut self, opened: &[Opened], this_end: WrittenBy) {
        for Opened { id, writer, .. } in opened {
            match *writer == this_end {
                true => drop(self.writers.insert(*id, Writer::default())),
                false => {
                    let reader = Reader { callback: Callback::None, owed: 0 };
                    self.readers.insert(*id, reader);
                }
            }
        }
    }

    fn deliver(&mut self, stream: StreamId, frame: Frame<'_>, ledger: &mut Ledger) {
        let reader = self.readers.get_mut(&stream).expect("a callback reads the stream");
        assert!(reader.callback == Callback::Idle);
        reader.callback = Callback::Running;
        match frame {
            Frame::Items { count, elements, .. } => {
                ledger.read(stream, count, elements.bytes());
                reader.owed = Chunk::cost_of(elements.bytes().len());
            }
            Frame::Skipped { error, .. } => {
                ledger.read_skipped(stream, error);
                reader.owed = Chunk::cost_of(error.len());
            }
            _ => {}
        }
        if self.runs_callbacks {
            self.run_callback(stream, ledger);
        }
    }
}

/// Tasks.
impl End {
    /// Polls something. If it waits already, it waits under another task afterwards if `renews`.
    pub(super) fn poll(&mut self, waiting: Waiting, renews: bool, ledger: &mut Ledger) {
        match waiting {
            Waiting::InLine(number) => self.poll_line(number, renews, ledger),
            Waiting::Call(number) => self.poll_call(number, renews),
            Waiting::OneWay(number) => {
                let Some(ticket) = self.one_ways.get(&number).copied() else { return };
                let task = self.task(waiting, renews);
                if self.machine.is_written(ticket, &task) {
                    self.waiting.remove(&waiting);
                    self.one_ways.remove(&number);
                }
            }
            Waiting::Reader(stream) => {
                self.read_chunks(stream, usize::MAX, false, renews, ledger);
            }
            Waiting::Writer(stream) => self.poll_writer(stream, renews, ledger),
            Waiting::Closed(stream) => self.poll_closed(stream, renews),
        }
        self.collect();
    }

    /// Polls one thing that waits, although it was not woken.
    pub(super) fn poll_any(&mut self, which: usize, renews: bool, ledger: &mut Ledger) {
        if let Some(waiting) = nth(&self.waiting, which) {
            self.poll(waiting, renews, ledger);
        }
    }

    /// Polls up to `count` things that were woken. Returns whether there were any.
    pub(super) fn poll_woken(&mut self, count: usize, ledger: &mut Ledger) -> bool {
        let count = count.min(self.woken.len());
        for waiting in self.woken.drain(..count).collect::<Vec<_>>() {
            self.poll(waiting, false, ledger);
        }
        count > 0
    }

    /// Asserts that everything that waits still has to wait.
    pub(super) fn assert_waits(&mut self, ledger: &mut Ledger) {
        for (waiting, _) in self.waiting.clone() {
            self.poll(waiting, false, ledger);
            assert!(self.waiting.contains_key(&waiting), "{waiting:?} was not woken");
            match waiting {
                Waiting::InLine(number) => {
                    let (message, _) = &self.in_line[&number];
                    assert!(
                        self.machine.free_slots(message.kind.line()) == 0,
                        "a call was forgotten"
                    );
                }
                Waiting::OneWay(_) => panic!("a frame is not written"),
                _ => {}
            }
        }
    }

    /// Reads all streams, and ends those that have no elements to write. Returns whether there is
    /// something that does not wait.
    pub(super) fn settle(&mut self, ledger: &mut Ledger) -> bool {
        let readers = self.readers.iter().filter(|(_, it)| it.callback == Callback::None);
        let readers = readers.map(|(stream, _)| Waiting::Reader(*stream));
        let writers = self.writers.keys().map(|it| Waiting::Writer(*it));
        let idle: Vec<_> =
            readers.chain(writers).filter(|it| !self.waiting.contains_key(it)).collect();
        for waiting in &idle {
            match waiting {
                Waiting::Writer(stream)
                    if self.writers.get(stream).is_some_and(|it| it.count == 0) =>
                {
                    self.drop_writer(*stream, b"", ledger);
                    self.collect();
                }
                waiting => self.poll(*waiting, false, ledger),
            }
        }
        let completed = std::mem::take(&mut self.running_one_ways);
        for _ in 0..completed {
            self.machine.complete_one_way();
        }
        self.collect();
        !idle.is_empty() || completed > 0
    }

    /// Asserts that the application and the machine have nothing left.
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.waiting, BTreeMap::new());
        let left = [self.in_line.len(), self.calls.len(), self.one_ways.len()];
        assert_eq!(left, [0; 3]);
        assert_eq!([self.readers.len(), self.writers.len()], [0; 2]);
        assert_eq!(self.machine.leftovers(), []);
    }
}

/// Returns the key at a random position.
fn nth<K: Copy, V>(map: &BTreeMap<K, V>, which: usize) -> Option<K> {
    map.keys().nth(which.checked_rem(map.len())?).copied()
}
