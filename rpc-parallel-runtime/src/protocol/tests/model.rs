//! Two machines that face each other, driven by random steps. In every order of steps each call is
//! answered or lost, elements arrive once and in order or their stream fails, no machine reports a
//! violation, no waiting task is forgotten, and nothing is left at the end.

use std::time::Duration;

use proptest::prelude::*;

use super::end::{End, Kind, Message, Phase, Stream, Writer};
use super::ledger::Ledger;
use crate::protocol::machine::Side;

/// The time between two steps of one end. Elements are gathered over several steps.
const STEP_TIME: Duration = Duration::from_micros(7);

/// One step of one end.
#[derive(Clone, Debug)]
enum Step {
    /// Sends messages. Only the calling end does.
    Begin {
        message: Message,
        times: usize,
    },
    LeaveLine(usize),
    Cancel {
        which: usize,
        times: usize,
    },
    /// Answers a call. Only the answering end does.
    Answer {
        which: usize,
        size: usize,
        streams: Vec<Stream>,
    },
    WriteElements {
        which: usize,
        elements: Writer,
    },
    Skip(usize),
    Watch(usize),
    EndStream {
        which: usize,
        error: Vec<u8>,
    },
    Read {
        which: usize,
        count: usize,
        owes: bool,
    },
    DropReader(usize),
    CallBack {
        which: usize,
        runs: bool,
    },
    Stop(usize),
    RunCallbacks,
    /// Polls something that waits and was not woken.
    Poll {
        which: usize,
        renews: bool,
    },
    PollWoken(usize),
    /// Writes up to this number of bytes.
    Write {
        bytes: usize,
        keeps: bool,
    },
    Receive {
        bytes: usize,
        times: usize,
        runs: bool,
    },
    /// Writes, receives and polls until nothing is left to do.
    Drain,
    Close,
    /// Ends this end at once. The peer still receives a part of what it has written.
    Cut {
        receives: usize,
    },
}

struct Pair {
    ends: [End; 2],
    ledger: Ledger,
}

impl Pair {
    fn new() -> Self {
        let ends = [End::new(Side::Calling), End::new(Side::Answering)];
        Self { ends, ledger: Ledger::default() }
    }

    fn step(&mut self, at: usize, step: Step) {
        let Self { ends, ledger } = self;
        let end = &mut ends[at];
        end.clock += STEP_TIME;
        match step {
            Step::Begin { message, times } => {
                for _ in 0..times {
                    ends[0].begin(message.clone(), ledger);
                }
            }
            Step::LeaveLine(which) => ends[0].leave_line(which),
            Step::Cancel { which, times } => {
                for _ in 0..times {
                    ends[0].cancel(which, ledger);
                }
            }
            Step::Answer { which, size, streams } => ends[1].answer(which, size, &streams, ledger),
            Step::WriteElements { which, elements } => end.write_elements(which, elements, ledger),
            Step::Skip(which) => end.skip(which, ledger),
            Step::Watch(which) => end.watch(which, ledger),
            Step::EndStream { which, error } => end.end_stream(which, &error, ledger),
            Step::Read { which, count, owes } => end.read(which, count, owes, ledger),
            Step::DropReader(which) => end.drop_reader(which, ledger),
            Step::CallBack { which, runs } => {
                end.runs_callbacks = runs;
                end.call_back(which, ledger);
            }
            Step::Stop(which) => end.stop(which, ledger),
            Step::RunCallbacks => drop(end.run_callbacks(ledger)),
            Step::Poll { which, renews } => end.poll_any(which, renews, ledger),
            Step::PollWoken(count) => drop(end.poll_woken(count, ledger)),
            Step::Write { bytes, keeps } => drop(end.write(bytes, keeps)),
            Step::Receive { bytes, times, runs } => {
                end.runs_callbacks = runs;
                for _ in 0..times {
                    self.receive(at, bytes);
                }
            }
            Step::Drain => self.drain(),
            // A worker does not close a connection.
            Step::Close => ends[0].close(),
            Step::Cut { receives } => {
                end.end();
                end.wire.truncate(receives);
            }
        }
        self.end_lost();
    }

    fn receive(&mut self, at: usize, bytes: usize) -> bool {
        let [one, other] = &mut self.ends;
        let (end, peer) = if at == 0 { (one, other) } else { (other, one) };
        end.receive(&mut peer.wire, bytes, &mut self.ledger)
    }

    /// Ends the connection where it was closed and everything is written, and where everything that
    /// an ended peer has written is received.
    fn end_lost(&mut self) {
        for at in [0, 1] {
            let peer = &self.ends[1 - at];
            let is_lost = peer.phase == Phase::Ended && peer.wire.is_empty();
            let end = &mut self.ends[at];
            if is_lost || end.phase == Phase::Closing && end.is_idle() {
                end.end();
            }
        }
    }

    /// Writes, receives and polls until nothing is left to do.
    fn drain(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for at in [0, 1] {
                is_busy |= self.ends[at].write(usize::MAX, false);
                is_busy |= self.receive(at, usize::MAX);
                let end = &mut self.ends[at];
                is_busy |= end.run_callbacks(&mut self.ledger);
                is_busy |= end.poll_woken(usize::MAX, &mut self.ledger);
            }
            self.end_lost();
        }
    }

    /// Lets everything end, and checks that nothing is left.
    fn finish(mut self) {
        self.drain();
        for end in &mut self.ends {
            end.assert_waits(&mut self.ledger);
        }
        let is_lost = self.ends.iter().any(|it| it.phase != Phase::Open);
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for end in &mut self.ends {
                is_busy |= end.settle(&mut self.ledger);
                is_busy |= end.has_running_calls();
                end.answer(0, 0, &[], &mut self.ledger);
            }
            self.drain();
        }
        for end in &mut self.ends {
            end.assert_empty();
            assert!(is_lost || !end.is_receiving(), "a frame is not complete");
        }
        if !is_lost {
            self.ledger.assert_one_ways_arrived();
        }
        self.ends[0].close();
        self.drain();
        for end in &self.ends {
            assert_eq!(end.phase, Phase::Ended);
            end.assert_empty();
        }
    }
}

fn any_which() -> impl Strategy<Value = usize> {
    0_usize..64
}

/// Returns sizes of messages: small ones, those near the limit of large frames, and large ones.
fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => 0_usize..100,
        1 => 100_usize..20_000,
        1 => 65_400_usize..65_600,
        4 => 65_536_usize..200_000,
    ]
}

fn any_streams() -> impl Strategy<Value = Vec<Stream>> {
    let window = prop_oneof![2 => 1_u32..200, 1 => 200_u32..100_000, 1 => 100_000_u32..1_000_000];
    let stream = (any::<bool>(), window)
        .prop_map(|(is_written_by_sender, window)| Stream { is_written_by_sender, window });
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(stream, 1..4)]
}

fn any_message() -> impl Strategy<Value = Message> {
    let kind =
        prop_oneof![5 => Just(Kind::Call), 1 => Just(Kind::Lasting), 2 => Just(Kind::OneWay)];
    (kind, any_size(), any_streams()).prop_map(|(kind, size, streams)| Message {
        kind,
        size,
        streams,
    })
}

fn any_elements() -> impl Strategy<Value = Writer> {
    let size = prop_oneof![8 => 0_usize..50, 2 => 50_usize..5000, 1 => 30_000_usize..100_000];
    (1_u32..20, 1_u32..8, size).prop_map(|(count, together, size)| Writer { count, together, size })
}

/// Returns numbers of bytes to write or receive.
fn any_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 0_usize..10, 2 => 10_usize..500, 1 => 500_usize..70_000, 3 => Just(usize::MAX)]
}

fn any_error() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), Just(b"failed".to_vec())]
}

fn any_step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![20 => Just(1_usize), 1 => 1_usize..40];
    let few = prop_oneof![3 => 1_usize..4, 1 => Just(usize::MAX)];
    let messages = (any_message(), times.clone());
    prop_oneof![
        24 => messages.prop_map(|(message, times)| Step::Begin { message, times }),
        1 => any_which().prop_map(Step::LeaveLine),
        8 => (any_which(), times).prop_map(|(which, times)| Step::Cancel { which, times }),
        8 => (any_which(), any_size(), any_streams())
            .prop_map(|(which, size, streams)| Step::Answer { which, size, streams }),
        16 => (any_which(), any_elements())
            .prop_map(|(which, elements)| Step::WriteElements { which, elements }),
        2 => any_which().prop_map(Step::Skip),
        1 => any_which().prop_map(Step::Watch),
        4 => (any_which(), any_error())
            .prop_map(|(which, error)| Step::EndStream { which, error }),
        10 => (any_which(), few.clone(), any::<bool>())
            .prop_map(|(which, count, owes)| Step::Read { which, count, owes }),
        3 => any_which().prop_map(Step::DropReader),
        3 => (any_which(), any::<bool>())
            .prop_map(|(which, runs)| Step::CallBack { which, runs }),
        2 => any_which().prop_map(Step::Stop),
        2 => Just(Step::RunCallbacks),
        5 => (any_which(), any::<bool>())
            .prop_map(|(which, renews)| Step::Poll { which, renews }),
        6 => few.prop_map(Step::PollWoken),
        24 => (any_bytes(), prop::bool::weighted(0.3))
            .prop_map(|(bytes, keeps)| Step::Write { bytes, keeps }),
        16 => (any_bytes(), 1_usize..4, any::<bool>())
            .prop_map(|(bytes, times, runs)| Step::Receive { bytes, times, runs }),
        2 => Just(Step::Drain),
        1 => prop_oneof![
            1 => Just(Step::Close),
            1 => (0_usize..1000).prop_map(|receives| Step::Cut { receives }),
        ],
    ]
}

/// The environment variable `PROPTEST_CASES` sets another number of cases.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        ProptestConfig::default().cases
    } else {
        2500
    };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_steps_end_every_call_and_stream_once(
        steps in prop::collection::vec((0_usize..2, any_step()), 1..80),
    ) {
        let mut pair = Pair::new();
        for (at, step) in steps {
            pair.step(at, step);
        }
        pair.finish();
    }
}
