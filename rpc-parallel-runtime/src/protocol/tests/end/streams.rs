//! The streams that one end reads and writes.

use super::{Callback, End, Phase, Waiting, Writer, nth};
use crate::protocol::reading::DirectStep;
use crate::protocol::tests::content;
use crate::protocol::tests::ledger::Ledger;
use crate::protocol::writing::{SendStatus, WriteClosed};
use crate::wire::StreamId;

impl End {
    /// Adds elements that a writer has to write.
    pub(crate) fn write_elements(&mut self, which: usize, elements: Writer, ledger: &mut Ledger) {
        let Some(stream) = nth(&self.writers, which) else { return };
        let writer = self.writers.get_mut(&stream).expect("the writer exists");
        *writer = Writer { count: writer.count + elements.count, ..elements };
        self.poll(Waiting::Writer(stream), false, ledger);
    }

    pub(super) fn poll_writer(&mut self, stream: StreamId, renews: bool, ledger: &mut Ledger) {
        let waiting = Waiting::Writer(stream);
        while let Some(Writer { count, together, size }) = self.writers.get(&stream).copied() {
            match self.machine.send_status(stream) {
                SendStatus::Room(_) if count > 0 => {
                    let together = together.clamp(1, count);
                    let first = ledger.write(stream, together);
                    let elements = content::elements(stream, first, together, size);
                    let transmit = content::send(&mut self.machine, stream, elements, self.clock);
                    self.hold(transmit);
                    self.writers.get_mut(&stream).expect("the writer exists").count -= together;
                }
                SendStatus::Full if count > 0 => {
                    let task = self.task(waiting, renews);
                    self.machine.wait_to_send(stream, &task);
                    return;
                }
                SendStatus::Room(_) | SendStatus::Full => break,
                SendStatus::Closed(why) => {
                    let is_lost = self.phase != Phase::Open;
                    assert!(why == WriteClosed::ReaderGone || is_lost);
                    self.drop_writer(stream, b"", ledger);
                    break;
                }
                SendStatus::Ended => unreachable!("a writer is dropped when it ends the stream"),
            }
        }
        self.waiting.remove(&waiting);
    }

    /// Writes a frame that stands for an element, if there is room.
    pub(crate) fn skip(&mut self, which: usize, ledger: &mut Ledger) {
        let Some(stream) = nth(&self.writers, which) else { return };
        if let SendStatus::Room(_) = self.machine.send_status(stream) {
            let frame = content::skipped(stream, ledger.write(stream, 1));
            let transmit = self.machine.send_elements(stream, frame, size_of::<u32>(), self.clock);
            self.hold(transmit);
        }
    }

    /// Waits until a stream is closed.
    pub(crate) fn watch(&mut self, which: usize, ledger: &mut Ledger) {
        if let Some(stream) = nth(&self.writers, which) {
            self.poll(Waiting::Closed(stream), false, ledger);
        }
    }

    pub(super) fn poll_closed(&mut self, stream: StreamId, renews: bool) {
        let waiting = Waiting::Closed(stream);
        match self.machine.send_status(stream) {
            SendStatus::Room(_) | SendStatus::Full => {
                let task = self.task(waiting, renews);
                self.machine.wait_to_send(stream, &task);
            }
            SendStatus::Closed(_) | SendStatus::Ended => drop(self.waiting.remove(&waiting)),
        }
    }

    /// Ends a stream that is written, and drops its writer.
    pub(crate) fn end_stream(&mut self, which: usize, error: &[u8], ledger: &mut Ledger) {
        if let Some(stream) = nth(&self.writers, which) {
            self.drop_writer(stream, error, ledger);
            self.collect();
        }
    }

    pub(super) fn drop_writer(&mut self, stream: StreamId, error: &[u8], ledger: &mut Ledger) {
        self.writers.remove(&stream);
        self.waiting.remove(&Waiting::Writer(stream));
        ledger.end(stream, error);
        self.machine.end_stream(stream, &content::end(stream, error));
        self.machine.drop_writer(stream);
    }

    /// Reads up to `count` chunks of a stream. If `owes`, the last one is not recorded as read.
    pub(crate) fn read(&mut self, which: usize, count: usize, owes: bool, ledger: &mut Ledger) {
        if let Some(stream) = nth(&self.readers, which) {
            self.read_chunks(stream, count, owes, false, ledger);
            self.collect();
        }
    }

    pub(super) fn read_chunks(
        &mut self,
        stream: StreamId,
        count: usize,
        owes: bool,
        renews: bool,
        ledger: &mut Ledger,
    ) {
        let waiting = Waiting::Reader(stream);
        for number in 1..=count {
            let Some(reader) = self.readers.get_mut(&stream) else { return };
            if reader.callback != Callback::None {
                return;
            }
            self.machine.note_read(stream, std::mem::take(&mut reader.owed));
            let task = self.task(waiting, renews);
            match self.machine.poll_chunk(stream, &task) {
                None => return,
                Some(Ok(chunk)) => {
                    ledger.read_chunk(stream, &chunk);
                    match owes && number == count {
                        true => {
                            self.readers.get_mut(&stream).expect("it exists").owed = chunk.cost();
                        }
                        false => self.machine.note_read(stream, chunk.cost()),
                    }
                }
                Some(Err(ended)) => {
                    ledger.read_end(stream, &ended, self.phase != Phase::Open);
                    self.readers.remove(&stream);
                    self.machine.drop_reader(stream);
                    break;
                }
            }
        }
        self.waiting.remove(&waiting);
    }

    pub(crate) fn drop_reader(&mut self, which: usize, ledger: &mut Ledger) {
        let Some(stream) = nth(&self.readers, which) else { return };
        if self.readers[&stream].callback == Callback::None {
            ledger.stop(stream);
            self.readers.remove(&stream);
            self.waiting.remove(&Waiting::Reader(stream));
            self.machine.drop_reader(stream);
            self.collect();
        }
    }

    /// Lets a callback read a stream.
    pub(crate) fn call_back(&mut self, which: usize, ledger: &mut Ledger) {
        let Some(stream) = nth(&self.readers, which) else { return };
        let reader = self.readers.get_mut(&stream).expect("the reader exists");
        if reader.callback == Callback::None {
            reader.callback = Callback::Running;
            self.waiting.remove(&Waiting::Reader(stream));
            if self.runs_callbacks {
                self.run_callback(stream, ledger);
            }
            self.collect();
        }
    }

    /// Stops the writer of a stream, without dropping the reader.
    pub(crate) fn stop(&mut self, which: usize, ledger: &mut Ledger) {
        if let Some(stream) = nth(&self.readers, which) {
            ledger.stop(stream);
            self.machine.stop(stream);
            self.collect();
        }
    }

    /// Continues all callbacks that are running. Returns whether there were any.
    pub(crate) fn run_callbacks(&mut self, ledger: &mut Ledger) -> bool {
        let running = self.readers.iter().filter(|(_, it)| it.callback == Callback::Running);
        let running: Vec<_> = running.map(|(stream, _)| *stream).collect();
        for stream in &running {
            self.run_callback(*stream, ledger);
        }
        self.collect();
        !running.is_empty()
    }

    pub(super) fn run_callback(&mut self, stream: StreamId, ledger: &mut Ledger) {
        while let Some(reader) = self.readers.get_mut(&stream) {
            if reader.owed > 0 {
                self.machine.note_read(stream, std::mem::take(&mut reader.owed));
            }
            match self.machine.next_step(stream) {
                DirectStep::Idle => {
                    reader.callback = Callback::Idle;
                    return;
                }
                DirectStep::Chunk(chunk) => {
                    ledger.read_chunk(stream, &chunk);
                    reader.owed = chunk.cost();
                }
                DirectStep::Ended(ended) => {
                    ledger.read_end(stream, &ended, self.phase != Phase::Open);
                    self.readers.remove(&stream);
                }
            }
        }
    }
}
