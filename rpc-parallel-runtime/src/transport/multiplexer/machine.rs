//! One end of a multiplexed stream as a state machine, without I/O.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem;
use std::task::Waker;

use super::frame::{HEADER_LEN, Header, MAX_DATA, MultiplexError};

/// The channel of the control connection.
pub(crate) const CONTROL: u32 = 0;

/// The number of bytes that a channel accepts without being read.
const WINDOW: usize = 256 * 1024;

/// The number of bytes of a channel that wait to be sent, after which it accepts no more.
const MAX_OUTGOING: usize = 64 * 1024;

/// The number of channels that the peer may have open.
const MAX_CHANNELS: usize = 16 * 1024;

/// The number of bytes that are handed out at once, apart from a last frame.
const MAX_TRANSMIT: usize = 64 * 1024;

/// The first bytes of the end that accepts channels. What the stream carries before them is not from
/// that end: a message of a remote shell, or text that the program prints before it is a worker.
const PREAMBLE: &[u8] = b"\0rpc-parallel multiplexed stream\0";

/// The number of bytes that may precede the preamble.
const MAX_BEFORE_PREAMBLE: usize = 64 * 1024;

/// One end of a multiplexed stream. Methods that can make another task continue collect its waker,
/// which [`take_wakers`](Self::take_wakers) returns.
pub(super) struct Machine {
    channels: HashMap<u32, Channel>,
    /// The channels that may have bytes to send, in the order of their turns.
    turns: VecDeque<u32>,
    /// Complete frames without data, which go first.
    urgent: Vec<u8>,
    /// Received bytes of an incomplete frame.
    unparsed: Vec<u8>,
    /// Whether the peer may open channels by sending on them.
    accepts: bool,
    /// Whether the preamble of the peer has not arrived yet.
    awaits_preamble: bool,
    /// Whether the stream has ended.
    ended: bool,
    wakers: Vec<Waker>,
}

/// One channel.
struct Channel {
    outgoing: VecDeque<u8>,
    /// The number of bytes that the peer still accepts.
    credit: usize,
    /// Whether the channel is among the turns.
    has_turn: bool,
    incoming: VecDeque<u8>,
    /// The number of bytes that were read, and for which the peer has no credit yet.
    read: usize,
    /// Whether this end has closed the channel. Its outgoing bytes are sent first.
    closed: bool,
    /// Whether the end of the channel was sent.
    end_sent: bool,
    peer_ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Channel {
    fn new() -> Self {
        Self {
            outgoing: VecDeque::new(),
            credit: WINDOW,
            has_turn: false,
            incoming: VecDeque::new(),
            read: 0,
            closed: false,
            end_sent: false,
            peer_ended: false,
            reader: None,
            writer: None,
        }
    }
}

impl Machine {
    /// Makes one end. `accepts` is whether the peer opens channels.
    pub(super) fn new(accepts: bool) -> Self {
        Self {
            channels: HashMap::from([(CONTROL, Channel::new())]),
            turns: VecDeque::new(),
            urgent: if accepts { PREAMBLE.to_vec() } else { Vec::new() },
            unparsed: Vec::new(),
            accepts,
            awaits_preamble: !accepts,
            ended: false,
            wakers: Vec::new(),
        }
    }

    /// Opens a channel, unless the peer has opened it already.
    pub(super) fn open(&mut self, channel: u32) {
        self.channels.entry(channel).or_insert_with(Channel::new);
    }

    /// Takes bytes to send, as many as the channel has room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it has no room, `BrokenPipe` if the channel has ended.
    pub(super) fn write(&mut self, id: u32, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let ended = self.ended;
        let channel = self.channels.get_mut(&id).filter(|it| !it.closed && !it.peer_ended);
        let Some(channel) = channel.filter(|_| !ended) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let room = match id {
            CONTROL => usize::MAX,
            _ => MAX_OUTGOING.saturating_sub(channel.outgoing.len()),
        };
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for segment in segments {
            let len = segment.len().min(room - taken);
            channel.outgoing.extend(&segment[..len]);
            taken += len;
        }
        self.give_turn(id);
        Ok(taken)
    }

    /// Returns whether a write would succeed or fail at once. Otherwise stores the waker.
    pub(super) fn poll_writable(&mut self, id: u32, waker: &Waker) -> bool {
        let Some(channel) = self.channels.get_mut(&id) else { return true };
        let waits = channel.outgoing.len() >= MAX_OUTGOING && !channel.closed;
        if waits && !channel.peer_ended && !self.ended {
            channel.writer = Some(waker.clone());
            return false;
        }
        true
    }

    /// Reads received bytes. No bytes are the end of the channel.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if no bytes have arrived. The waker is stored, if there is one.
    pub(super) fn read(
        &mut self,
        id: u32,
        buffers: &mut [IoSliceMut<'_>],
        waker: Option<&Waker>,
    ) -> io::Result<usize> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(0) };
        if channel.incoming.is_empty() {
            if channel.peer_ended || channel.closed || self.ended {
                return Ok(0);
            }
            if let Some(waker) = waker {
                channel.reader = Some(waker.clone());
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut len = 0;
        for buffer in buffers {
            let mut filled = 0;
            while filled < buffer.len() && !channel.incoming.is_empty() {
                filled += channel.incoming.read(&mut buffer[filled..])?;
            }
            len += filled;
        }
        channel.read += len;
        if channel.read >= WINDOW / 2 && !channel.peer_ended {
            let bytes = mem::take(&mut channel.read);
            self.urgent.extend_from_slice(&Header::Credit { channel: id, bytes }.encode());
        }
        Ok(len)
    }

    /// Closes a channel: its end follows the bytes that were written.
    pub(super) fn close(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.closed = true;
        self.wakers.extend([channel.reader.take(), channel.writer.take()].into_iter().flatten());
        self.give_turn(id);
        self.remove_if_over(id);
    }

    /// Ends the stream and all channels. Received bytes can still be read.
    pub(super) fn end(&mut self) {
        self.ended = true;
        for channel in self.channels.values_mut() {
            let wakers = [channel.reader.take(), channel.writer.take()];
            self.wakers.extend(wakers.into_iter().flatten());
        }
    }

    /// Handles received bytes.
    ///
    /// # Errors
    ///
    /// The peer has broken the protocol.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), MultiplexError> {
        // Taken and put back, because handling a frame needs the rest of the machine.
        let mut unparsed = mem::take(&mut self.unparsed);
        unparsed.extend_from_slice(bytes);
        let parsed = self.parse(&unparsed);
        if let Ok(parsed) = parsed {
            unparsed.drain(..parsed);
            self.unparsed = unparsed;
        }
        parsed.map(|_| ())
    }

    /// Handles the complete frames at the beginning of the bytes, and returns their length.
    fn parse(&mut self, bytes: &[u8]) -> Result<usize, MultiplexError> {
        let mut parsed = 0;
        if self.awaits_preamble {
            match bytes.windows(PREAMBLE.len()).position(|it| it == PREAMBLE) {
                Some(at) => {
                    self.awaits_preamble = false;
                    parsed = at + PREAMBLE.len();
                }
                None if bytes.len() > MAX_BEFORE_PREAMBLE + PREAMBLE.len() => {
                    return Err(MultiplexError::NoPreamble(MAX_BEFORE_PREAMBLE));
                }
                None => return Ok(0),
            }
        }
        while let Some(header) = Header::decode(&bytes[parsed..])? {
            let begin = parsed + HEADER_LEN;
            let data = match header {
                Header::Data { len, .. } => match bytes.get(begin..begin + len) {
                    Some(data) => data,
                    None => break,
                },
                Header::Credit { .. } | Header::End { .. } => &[],
            };
            self.handle(header, data)?;
            parsed = begin + data.len();
        }
        Ok(parsed)
    }

    fn handle(&mut self, header: Header, data: &[u8]) -> Result<(), MultiplexError> {
        match header {
            Header::Data { channel: id, .. } => {
                if self.accepts && !self.channels.contains_key(&id) {
                    if self.channels.len() >= MAX_CHANNELS {
                        return Err(MultiplexError::TooManyChannels(MAX_CHANNELS));
                    }
                    self.open(id);
                }
                // This end may have removed the channel meanwhile.
                let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
                if channel.closed {
                    return Ok(());
                }
                if channel.incoming.len() + channel.read + data.len() > WINDOW {
                    return Err(MultiplexError::WindowExceeded(id));
                }
                channel.incoming.extend(data);
                self.wakers.extend(channel.reader.take());
            }
            Header::Credit { channel: id, bytes } => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.credit = channel.credit.saturating_add(bytes);
                    self.give_turn(id);
                }
            }
            Header::End { channel: id } => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.peer_ended = true;
                    channel.outgoing.clear();
                    let wakers = [channel.reader.take(), channel.writer.take()];
                    self.wakers.extend(wakers.into_iter().flatten());
                    self.give_turn(id);
                    self.remove_if_over(id);
                }
            }
        }
        Ok(())
    }

    /// Removes a channel that both ends have closed.
    fn remove_if_over(&mut self, id: u32) {
        let is_over = |it: &Channel| it.peer_ended && it.closed && it.end_sent;
        if self.channels.get(&id).is_some_and(is_over) {
            self.channels.remove(&id);
        }
    }

    fn give_turn(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let has_bytes = !channel.outgoing.is_empty() && channel.credit > 0;
        let has_end = channel.closed && !channel.end_sent && channel.outgoing.is_empty();
        if (has_bytes || has_end) && !channel.has_turn {
            channel.has_turn = true;
            match id {
                CONTROL => self.turns.push_front(id),
                _ => self.turns.push_back(id),
            }
        }
    }

    /// Appends the bytes to send next. Appends nothing if there are none.
    pub(super) fn transmit(&mut self, bytes: &mut Vec<u8>) {
        bytes.append(&mut self.urgent);
        while bytes.len() < MAX_TRANSMIT
            && let Some(id) = self.turns.pop_front()
        {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            channel.has_turn = false;
            let len = channel.outgoing.len().min(channel.credit).min(MAX_DATA);
            if len > 0 {
                bytes.extend_from_slice(&Header::Data { channel: id, len }.encode());
                bytes.extend(channel.outgoing.drain(..len));
                channel.credit -= len;
                self.wakers.extend(channel.writer.take());
            }
            if channel.closed && channel.outgoing.is_empty() && !channel.end_sent {
                channel.end_sent = true;
                bytes.extend_from_slice(&Header::End { channel: id }.encode());
            }
            self.give_turn(id);
            self.remove_if_over(id);
        }
    }

    /// Returns the wakers that were collected.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(machine: &mut Machine, channel: u32) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let len = machine.read(channel, &mut [IoSliceMut::new(&mut buffer)], None)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    fn write(machine: &mut Machine, channel: u32, bytes: &[u8]) -> io::Result<usize> {
        machine.write(channel, &[IoSlice::new(bytes)])
    }

    /// Reads what the channels of a machine have.
    fn read_all(machine: &mut Machine, received: &mut [Vec<u8>]) {
        for (channel, received) in (0..).zip(received) {
            // A channel that is not open has ended.
            while let Ok(bytes) = read(machine, channel)
                && !bytes.is_empty()
            {
                received.extend(bytes);
            }
        }
    }

    /// Passes what one end has to send on to the other, until it has nothing more to send.
    fn pass(from: &mut Machine, to: &mut Machine) -> usize {
        let mut passed = 0;
        loop {
            let mut bytes = Vec::new();
            from.transmit(&mut bytes);
            if bytes.is_empty() {
                return passed;
            }
            passed += bytes.len();
            to.receive(&bytes).expect("both ends keep the protocol");
        }
    }

    fn pair() -> (Machine, Machine) {
        (Machine::new(false), Machine::new(true))
    }

    #[test]
    fn bytes_of_channels_do_not_mix() {
        let (mut master, mut worker) = pair();
        for channel in [1, 2] {
            master.open(channel);
            write(&mut master, channel, &[channel as u8; 5]).expect("it is open");
        }
        write(&mut master, CONTROL, b"order").expect("it is open");

        pass(&mut master, &mut worker);

        assert_eq!(read(&mut worker, CONTROL).expect("it has bytes"), b"order");
        assert_eq!(read(&mut worker, 1).expect("it has bytes"), [1; 5]);
        assert_eq!(read(&mut worker, 2).expect("it has bytes"), [2; 5]);
    }

    #[test]
    fn text_before_preamble_is_skipped_up_to_its_limit() {
        let (mut master, mut worker) = pair();
        write(&mut worker, CONTROL, b"hello").expect("it is open");
        let mut bytes = b"Welcome to this host!\n".to_vec();
        worker.transmit(&mut bytes);

        bytes.chunks(3).for_each(|it| master.receive(it).expect("it is skipped"));
        let endless = Machine::new(false).receive(&vec![b'x'; 2 * MAX_BEFORE_PREAMBLE]);

        assert_eq!(read(&mut master, CONTROL).expect("it has bytes"), b"hello");
        assert!(matches!(endless, Err(MultiplexError::NoPreamble(_))), "{endless:?}");
    }

    #[test]
    fn channel_that_is_not_read_stops_at_its_window_and_delays_no_other() {
        let (mut master, mut worker) = pair();
        master.open(1);
        master.open(2);
        let mut sent = 0;
        while let Ok(len) = write(&mut master, 1, &[7; 10_000]) {
            sent += len;
            pass(&mut master, &mut worker);
        }
        write(&mut master, 2, b"hello").expect("it has room");

        pass(&mut master, &mut worker);

        assert_eq!(sent, WINDOW + MAX_OUTGOING);
        assert_eq!(read(&mut worker, 2).expect("it has bytes"), b"hello");
    }

    #[test]
    fn control_bytes_overtake_other_channels() {
        let (mut master, _) = pair();
        master.open(1);
        write(&mut master, 1, &[7; MAX_OUTGOING]).expect("it has room");
        let mut bytes = Vec::new();
        write(&mut master, CONTROL, b"ping").expect("it is open");

        master.transmit(&mut bytes);

        assert_eq!(&bytes[..HEADER_LEN], Header::Data { channel: CONTROL, len: 4 }.encode());
    }

    #[test]
    fn close_follows_written_bytes_and_ends_both_directions() {
        let (mut master, mut worker) = pair();
        master.open(1);
        write(&mut master, 1, b"last").expect("it is open");
        master.close(1);

        pass(&mut master, &mut worker);

        assert_eq!(read(&mut worker, 1).expect("it has bytes"), b"last");
        assert_eq!(read(&mut worker, 1).expect("it has ended"), b"");
        let error = write(&mut worker, 1, b"too late").expect_err("it has ended");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        worker.close(1);
        pass(&mut worker, &mut master);
        assert_eq!((master.channels.len(), worker.channels.len()), (1, 1));
    }

    #[test]
    fn peer_exceeding_window_is_an_error() {
        let mut worker = Machine::new(true);
        let frame = [&Header::Data { channel: 1, len: MAX_DATA }.encode(), &[0; MAX_DATA][..]];
        let frame = frame.concat();

        let received: Result<(), _> =
            (0..=WINDOW / MAX_DATA).try_for_each(|_| worker.receive(&frame));

        assert!(matches!(received, Err(MultiplexError::WindowExceeded(1))), "{received:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn arbitrary_bytes_are_handled_without_panic(
            pieces in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..40), 0..20)
        ) {
            let mut machine = Machine::new(true);
            for piece in pieces {
                if machine.receive(&piece).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn all_bytes_arrive_in_order_however_the_stream_is_cut(
            writes in proptest::collection::vec((0..4_u32, 1..100_000_usize), 1..12),
            cuts in proptest::collection::vec(1..30_000_usize, 1..20),
        ) {
            let (mut master, mut worker) = pair();
            (1..4).for_each(|it| master.open(it));
            let mut sent = vec![Vec::new(); 4];
            let mut received = vec![Vec::new(); 4];
            let (mut number, mut cuts) = (0_u8, cuts.into_iter().cycle());
            for (channel, len) in writes {
                number = number.wrapping_add(1);
                let mut rest = vec![number; len];
                while !rest.is_empty() {
                    if let Ok(written) = write(&mut master, channel, &rest) {
                        sent[channel as usize].extend(rest.drain(..written));
                    }
                    let mut bytes = Vec::new();
                    master.transmit(&mut bytes);
                    let mut bytes = &bytes[..];
                    while !bytes.is_empty() {
                        let cut = cuts.next().expect("it is a cycle").min(bytes.len());
                        worker.receive(&bytes[..cut]).expect("the master keeps the protocol");
                        bytes = &bytes[cut..];
                    }
                    read_all(&mut worker, &mut received);
                    pass(&mut worker, &mut master);
                }
            }
            while pass(&mut master, &mut worker) > 0 {
                read_all(&mut worker, &mut received);
                pass(&mut worker, &mut master);
            }
            prop_assert!(received == sent);
        }
    }
}
