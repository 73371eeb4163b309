//! What a master tells a new worker, and what the worker reports.
//!
//! ```text
//! master  greeting:16 start length:4 init length:4 start.. init..     and descriptors
//! worker  report length:4 report..                                    hello, then started
//! ```
//!
//! All of it is plain functions of bytes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::flavor::RuntimeFlavor;
use super::panics::PanicPolicy;
use super::redirect::Output;
use super::set_up::SetUp;
use crate::wire::{
    Greeting, GreetingError, MalformedMessage, Overrides, PanicReport, Settings, Sink, TooLarge,
    WorkerId, WorkerTypeId, fields, read_message, shorten, shorten_list, write_message,
};
use crate::worker::{InitError, WorkerStats};

pub(super) const HEADER_LEN: usize = 24;

/// How many bytes say how long a report is.
const LENGTH: usize = 4;

/// Beyond this a start or a report is none of ours.
const MAX_LEN: usize = 1024 * 1024;

/// Everything that a worker needs to begin.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Start {
    pub(crate) id: WorkerId,
    pub(crate) name: Option<String>,
    pub(crate) worker_type: WorkerTypeId,
    pub(crate) lifetime: Lifetime,
    pub(crate) panics: PanicPolicy,
    pub(crate) settings: Settings,
    pub(crate) flavor: RuntimeFlavor,
    pub(crate) spawn_defaults: SpawnDefaults,
    /// The number of the master's process.
    pub(crate) master: u32,
    pub(crate) set_up: SetUp,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// How long a worker lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    /// As long as its first connection, which was handed over with the start.
    WithConnection,
    /// As long as its master, or until nobody can reach it any more.
    WithMaster,
    /// Until somebody tells it to end, or nobody can reach it any more.
    Detached,
}

/// How a process starts workers. Workers inherit it, so that they can be masters themselves.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SpawnDefaults {
    /// The program; the running one, if not said.
    pub(crate) program: Option<OsString>,
    /// What the program is called by.
    pub(crate) arg0: Option<OsString>,
    /// Its arguments; ours, if not said.
    pub(crate) arguments: Option<Vec<OsString>>,
    /// Whether the program prints something of its own before the worker begins.
    pub(crate) prints_before_worker_main: bool,
    /// What workers have whose spawner says nothing else; in force as it stands here.
    pub(crate) settings: Settings,
    /// What wins over all settings, also those that a spawner says.
    pub(crate) overrides: Overrides,
    pub(crate) worker_flavor: RuntimeFlavor,
    /// Whether workers install a `tracing` subscriber that keeps their logs.
    pub(crate) worker_logs: bool,
}

impl SpawnDefaults {
    /// Returns what a worker gets for which these settings were said, or none.
    pub(crate) fn settings_for(&self, said: Option<Settings>) -> Settings {
        said.map_or(self.settings, |it| self.overrides.over(it))
    }
}

/// What a worker reports: first while it starts, and then for as long as it lives.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ControlEvent {
    /// The process runs, and is as it was asked to be. What was started may be another one, which
    /// a launcher has put before it.
    Hello {
        pid: u32,
    },
    /// The worker's `init` has made its state.
    Started {
        /// Where it listens by itself: one that may outlive its master does.
        listens_at: Option<PathBuf>,
    },
    Failed(StartFailure),
    /// A sign of life, because the master asked for one.
    Pong,
    /// How the process is doing, because the master asked.
    Stats(Box<WorkerStats>),
    /// There was a panic that nobody has caught: these are the last words.
    Panicked(PanicReport),
    /// It takes no new connections any more.
    Closed,
    /// It is about to end, in order, within this time.
    Ending {
        within: Duration,
    },
    /// `on_shutdown` of all states has returned or panicked, or was dropped because it was not in
    /// time. Sent once, after `Ending`.
    ShutDown {
        in_time: bool,
    },
}

/// Why a process did not become the worker that it was asked to be.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum StartFailure {
    OtherBuild { worker: u64, master: u64 },
    CurrentDir { why: String },
    Redirect { stream: String, why: String },
    SetUp { tried: String, why: String },
    UnknownWorkerType { offers: Vec<String> },
    Listen { why: String },
    Init(InitError),
}

fields!(struct Start {
    id,
    name,
    worker_type,
    lifetime,
    panics,
    settings,
    flavor,
    spawn_defaults,
    master,
    set_up,
    stdout,
    stderr,
});
fields!(enum Lifetime { 0 => WithConnection, 1 => WithMaster, 2 => Detached });
fields!(struct SpawnDefaults {
    program,
    arg0,
    arguments,
    prints_before_worker_main,
    settings,
    overrides,
    worker_flavor,
    worker_logs,
});
fields!(enum ControlEvent {
    0 => Hello { pid },
    1 => Started { listens_at },
    2 => Failed(failure),
    3 => Pong,
    4 => Stats(stats),
    5 => Panicked(panic),
    6 => Closed,
    7 => Ending { within },
    8 => ShutDown { in_time },
});
fields!(enum StartFailure {
    0 => OtherBuild { worker, master },
    1 => CurrentDir { why },
    2 => Redirect { stream, why },
    3 => SetUp { tried, why },
    4 => UnknownWorkerType { offers },
    5 => Listen { why },
    6 => Init(error),
});

/// The beginning of what a master tells.
pub(super) struct Header {
    pub(super) greeting: Greeting,
    pub(super) start_len: usize,
    pub(super) init_len: usize,
}

/// A start or a report cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    #[error("start message")]
    Malformed(#[from] MalformedMessage),
    #[error("start message")]
    TooLarge(#[from] TooLarge),
}

impl Start {
    /// Encodes a start together with the argument of `init`.
    pub(super) fn encode(&self, greeting: Greeting, init: &[u8]) -> Result<Vec<u8>, StartError> {
        let mut bytes = vec![0; HEADER_LEN];
        let mut sink = Sink::new(&mut bytes, MAX_LEN);
        write_message(self, &mut sink);
        sink.finish()?;
        let lengths = [bytes.len() - HEADER_LEN, init.len()];
        let lengths = lengths.map(|it| u32::try_from(it).expect("settings keep both below 4 GiB"));
        bytes[..16].copy_from_slice(&greeting.to_bytes());
        bytes[16..20].copy_from_slice(&lengths[0].to_le_bytes());
        bytes[20..24].copy_from_slice(&lengths[1].to_le_bytes());
        bytes.extend_from_slice(init);
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StartError> {
        Ok(read_message(bytes)?)
    }
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, StartError> {
        let (greeting, lengths) = bytes.split_first_chunk().expect("a header begins with 16 bytes");
        let (start_len, init_len) = lengths.split_at(4);
        let [start_len, init_len] = [start_len, init_len]
            .map(|it| u32::from_le_bytes(it.try_into().expect("a length has four bytes")) as usize);
        if start_len > MAX_LEN {
            return Err(TooLarge { size: start_len, max: MAX_LEN }.into());
        }
        Ok(Self { greeting: Greeting::from_bytes(greeting)?, start_len, init_len })
    }
}

impl ControlEvent {
    /// Encodes a report. What users say too much of is cut short, lest the master take it for none.
    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = self.try_encode().or_else(|_| self.shortened().try_encode());
        encoded.expect("short texts and numbers are a short report")
    }

    fn try_encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = vec![0; LENGTH];
        let mut sink = Sink::new(&mut bytes, MAX_LEN);
        write_message(self, &mut sink);
        sink.finish()?;
        let len = u32::try_from(bytes.len() - LENGTH).expect("a sink keeps to its limit");
        bytes[..LENGTH].copy_from_slice(&len.to_le_bytes());
        Ok(bytes)
    }

    fn shortened(&self) -> Self {
        match self.clone() {
            Self::Failed(failure) => Self::Failed(failure.shortened()),
            Self::Panicked(panic) => Self::Panicked(panic.shortened()),
            short @ (Self::Hello { .. }
            | Self::Started { .. }
            | Self::Pong
            | Self::Stats(_)
            | Self::Closed
            | Self::Ending { .. }
            | Self::ShutDown { .. }) => short,
        }
    }

    /// Decodes the first report, and returns how many bytes it took; none if it is incomplete.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, StartError> {
        let len = Self::first_len(bytes)?;
        match bytes.get(LENGTH..len) {
            Some(report) => Ok(Some((read_message(report)?, len))),
            None => Ok(None),
        }
    }

    /// Returns how many bytes the first report takes, or its length, as long as that is incomplete.
    pub(super) fn first_len(bytes: &[u8]) -> Result<usize, StartError> {
        let Some(len) = bytes.first_chunk() else { return Ok(LENGTH) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_LEN {
            return Err(TooLarge { size: len, max: MAX_LEN }.into());
        }
        Ok(LENGTH + len)
    }
}

impl StartFailure {
    fn shortened(self) -> Self {
        match self {
            Self::OtherBuild { worker, master } => Self::OtherBuild { worker, master },
            Self::CurrentDir { why } => Self::CurrentDir { why: shorten(why) },
            Self::Redirect { stream, why } => Self::Redirect { stream, why: shorten(why) },
            Self::SetUp { tried, why } => Self::SetUp { tried: shorten(tried), why: shorten(why) },
            Self::UnknownWorkerType { offers } => {
                Self::UnknownWorkerType { offers: shorten_list(offers) }
            }
            Self::Listen { why } => Self::Listen { why: shorten(why) },
            Self::Init(InitError::Failed { why }) => {
                Self::Init(InitError::Failed { why: shorten(why) })
            }
            Self::Init(InitError::Panicked(panic)) => {
                Self::Init(InitError::Panicked(panic.shortened()))
            }
            Self::Init(InitError::Undecodable { why }) => {
                Self::Init(InitError::Undecodable { why: shorten(why) })
            }
        }
    }
}

impl From<InitError> for StartFailure {
    fn from(error: InitError) -> Self {
        Self::Init(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::launch::ResourceLimit;

    proptest! {
        #[test]
        fn whatever_comes_is_a_header_or_an_error(bytes in any::<[u8; HEADER_LEN]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert!(header.start_len <= MAX_LEN);
            }
        }

        #[test]
        fn arbitrary_bytes_are_a_start_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Start::decode(&bytes);
        }

        #[test]
        fn truncated_starts_fail(cut in any::<prop::sample::Index>()) {
            let bytes = start().encode(crate::worker::greeting(), b"").expect("the start is short");
            let bytes = &bytes[HEADER_LEN..];

            prop_assert_eq!(Start::decode(bytes).expect("the start is whole"), start());
            prop_assert!(Start::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn whatever_comes_is_a_report_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, len))) = ControlEvent::decode(&bytes) {
                prop_assert!(len <= bytes.len());
            }
        }
    }

    fn start() -> Start {
        let set_up = SetUp {
            nice: Some(-3),
            cpus: Some(vec![0, 7]),
            current_dir: Some("/tmp".into()),
            limits: vec![ResourceLimit::open_files(256).hard(1024)],
            ..SetUp::default()
        };
        Start {
            id: "0123456789abcdef0123456789abcdef"
                .parse()
                .expect("the text is 32 hexadecimal digits"),
            name: Some("ledger".to_owned()),
            worker_type: WorkerTypeId::chosen("ledger"),
            lifetime: Lifetime::WithMaster,
            panics: PanicPolicy::EndWorker,
            settings: Settings::default(),
            flavor: RuntimeFlavor::MultiThread { threads: Some(3) },
            spawn_defaults: SpawnDefaults {
                arguments: Some(vec!["worker".into()]),
                ..SpawnDefaults::default()
            },
            master: 4711,
            set_up,
            stdout: Output::File { path: "out".into(), append: true },
            stderr: Output::Inherit,
        }
    }

    #[test]
    fn a_report_that_says_too_much_is_cut_short() {
        let long = || "x".repeat(2 * MAX_LEN);
        let message = "it is over".to_owned();
        let panic =
            || PanicReport { message: message.clone(), location: None, backtrace: Some(long()) };
        let panicked = InitError::Panicked(panic());
        let reports = [
            ControlEvent::Panicked(panic()),
            ControlEvent::Failed(StartFailure::Init(panicked)),
            ControlEvent::Failed(StartFailure::Init(InitError::Failed { why: long() })),
            ControlEvent::Failed(StartFailure::UnknownWorkerType { offers: vec![long(), long()] }),
        ];

        for report in reports {
            let bytes = report.encode();
            let (decoded, len) =
                ControlEvent::decode(&bytes).expect("it is a report").expect("a whole one");

            assert_eq!(len, bytes.len());
            let expected = report.shortened();
            assert!(decoded == expected && decoded != report, "{expected:?}");
        }
    }

    #[test]
    fn a_report_that_is_cut_is_waited_for() {
        let why = "no such directory".to_owned();
        let report = ControlEvent::Failed(StartFailure::CurrentDir { why });
        let bytes = report.encode();

        let decoded = [4, bytes.len() - 1].map(|len| ControlEvent::decode(&bytes[..len]));

        assert!(decoded.iter().all(|it| matches!(it, Ok(None))), "{decoded:?}");
        assert_eq!(
            ControlEvent::decode(&bytes).expect("it is a report"),
            Some((report, bytes.len()))
        );
    }
}
