//! What two ends have sent, to compare it with what is received.

use std::collections::{HashMap, HashSet};

use super::content;
use crate::protocol::reading::{Chunk, ReadEnded};
use crate::wire::StreamId;

/// What was sent, and how much of it was received.
#[derive(Default)]
pub(super) struct Ledger {
    streams: HashMap<StreamId, Stream>,
    /// The numbers of messages that opened no stream at the peer, because they were cancelled.
    cancelled: HashSet<u32>,
    messages: u32,
    one_ways_sent: u32,
    one_ways_received: u32,
}

struct Stream {
    /// The number of the message that opens the stream.
    opener: u32,
    written: u32,
    read: u32,
    /// The error with which the writer has ended the stream, or none.
    end: Option<Vec<u8>>,
    /// Whether the reader has stopped the writer.
    is_stopped: bool,
}

impl Ledger {
    /// Returns the number of the next call or answer.
    pub(super) fn next_message(&mut self) -> u32 {
        self.messages += 1;
        self.messages
    }

    /// Returns the number of the next one-way call.
    pub(super) fn next_one_way(&mut self) -> u32 {
        self.one_ways_sent += 1;
        self.one_ways_sent
    }

    /// Checks that a one-way call is the next one in the order in which they were sent.
    pub(super) fn receive_one_way(&mut self, number: u32) {
        self.one_ways_received += 1;
        assert_eq!(number, self.one_ways_received, "one-way calls are out of order");
    }

    pub(super) fn assert_one_ways_arrived(&self) {
        assert_eq!(self.one_ways_received, self.one_ways_sent, "one-way calls are missing");
    }

    pub(super) fn open(&mut self, stream: StreamId, opener: u32) {
        let opened = Stream { opener, written: 0, read: 0, end: None, is_stopped: false };
        assert!(self.streams.insert(stream, opened).is_none(), "a stream number is used twice");
    }

    pub(super) fn cancel(&mut self, message: u32) {
        self.cancelled.insert(message);
    }

    /// Records that elements are written, and returns the number of the first.
    pub(super) fn write(&mut self, stream: StreamId, count: u32) -> u32 {
        let stream = self.stream(stream);
        stream.written += count;
        stream.written - count
    }

    pub(super) fn end(&mut self, stream: StreamId, error: &[u8]) {
        let end = &mut self.stream(stream).end;
        assert!(end.is_none(), "a stream is ended twice");
        *end = Some(error.to_vec());
    }

    pub(super) fn stop(&mut self, stream: StreamId) {
        self.stream(stream).is_stopped = true;
    }

    /// Checks that a chunk holds the next elements of a stream.
    pub(super) fn read_chunk(&mut self, stream: StreamId, chunk: &Chunk) {
        match chunk {
            Chunk::Elements { count, bytes } => self.read(stream, *count, bytes),
            Chunk::Skipped(error) => self.read_skipped(stream, error),
        }
    }

    pub(super) fn read(&mut self, stream: StreamId, count: u32, bytes: &[u8]) {
        for number in content::numbers_of(count, bytes) {
            self.read_element(stream, number);
        }
    }

    pub(super) fn read_skipped(&mut self, stream: StreamId, error: &[u8]) {
        let number = *error.first_chunk().expect("the error is a number");
        self.read_element(stream, u32::from_le_bytes(number));
    }

    fn read_element(&mut self, stream: StreamId, number: u32) {
        let stream = self.stream(stream);
        assert_eq!(number, stream.read, "elements are lost, repeated or out of order");
        stream.read += 1;
    }

    /// Checks that a stream has ended in a way that what was sent explains.
    pub(super) fn read_end(&mut self, id: StreamId, ended: &ReadEnded, is_lost: bool) {
        let opener = self.stream(id).opener;
        let is_cancelled = self.cancelled.contains(&opener);
        let stream = self.stream(id);
        match ended {
            ReadEnded::ByWriter(_) if stream.is_stopped => {}
            ReadEnded::ByWriter(error) => {
                assert_eq!(stream.read, stream.written, "elements are missing at the end");
                // A machine itself ends the streams of an answer that nothing reads.
                let sent = stream.end.as_deref().unwrap_or_default();
                assert_eq!(error, sent, "the stream has ended with another error");
            }
            ReadEnded::Abandoned => assert!(is_cancelled, "the message was not cancelled"),
            ReadEnded::Lost => assert!(is_lost, "the connection is not lost"),
        }
    }

    fn stream(&mut self, stream: StreamId) -> &mut Stream {
        self.streams.get_mut(&stream).expect("the stream was opened")
    }
}
