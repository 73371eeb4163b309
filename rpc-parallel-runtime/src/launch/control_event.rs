//! Control events, which a worker sends to its master over the control socket.
//!
//! ```text
//! length:4 event..
//! ```
//!
//! All of it is plain functions of bytes.

use std::path::PathBuf;
use std::time::Duration;

use super::start::{MAX_LEN, StartError};
use super::start_failure::StartFailure;
use crate::wire::{PanicReport, Sink, TooLarge, fields, read_message, write_message};
use crate::worker::WorkerStats;

/// The number of bytes of the length of an event.
const LENGTH: usize = 4;

/// An event that a worker reports to its master, during its start and later.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ControlEvent {
    /// The process runs, and its set-up is applied. This is the first event. The process may differ
    /// from the one that the master has started, if a launcher forks.
    Hello {
        pid: u32,
        /// The name of its host, if that may be another one than the master's.
        host: Option<String>,
    },
    /// The worker's `init` has returned its state, and the worker serves.
    Started {
        /// The path of the worker's own listener, which only a detached worker has.
        listens_at: Option<PathBuf>,
    },
    Failed(StartFailure),
    /// A heartbeat, in answer to `Ping`.
    Pong,
    /// The stats of the process, in answer to `Stats`.
    Stats(Box<WorkerStats>),
    /// An unhandled panic. The process ends next.
    Panicked(PanicReport),
    /// The worker takes no new connections.
    Closed,
    /// The worker begins an orderly end, which takes at most this time.
    Ending {
        within: Duration,
    },
    /// `on_shutdown` of all states has returned or panicked, or was dropped because it exceeded the
    /// time. Sent once, after `Ending`.
    ShutDown {
        in_time: bool,
    },
    /// The process exits with this code. Only a worker whose master has no access to its process
    /// sends it, as its last event.
    Exiting {
        code: i32,
    },
}

fields!(enum ControlEvent {
    0 => Hello { pid, host },
    1 => Started { listens_at },
    2 => Failed(failure),
    3 => Pong,
    4 => Stats(stats),
    5 => Panicked(panic),
    6 => Closed,
    7 => Ending { within },
    8 => ShutDown { in_time },
    9 => Exiting { code },
});

impl ControlEvent {
    /// Encodes an event. Texts of the user are shortened if the event exceeds the maximum length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = self.try_encode().or_else(|_| self.shortened().try_encode());
        encoded.expect("shortened texts and numbers are within the maximum length")
    }

    fn try_encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = vec![0; LENGTH];
        let mut sink = Sink::new(&mut bytes, MAX_LEN);
        write_message(self, &mut sink);
        sink.finish()?;
        let len = u32::try_from(bytes.len() - LENGTH).expect("the sink limits the length");
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
            | Self::ShutDown { .. }
            | Self::Exiting { .. }) => short,
        }
    }

    /// Decodes the first event, and returns it with its length in bytes. Returns `None` if it is
    /// incomplete.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, StartError> {
        let len = Self::first_len(bytes)?;
        match bytes.get(LENGTH..len) {
            Some(event) => Ok(Some((read_message(event)?, len))),
            None => Ok(None),
        }
    }

    /// Returns the length of the first event in bytes. If even its length field is incomplete,
    /// returns the length of this field.
    pub(super) fn first_len(bytes: &[u8]) -> Result<usize, StartError> {
        let Some(len) = bytes.first_chunk() else { return Ok(LENGTH) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_LEN {
            return Err(TooLarge { size: len, max: MAX_LEN }.into());
        }
        Ok(LENGTH + len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::worker::InitError;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_event_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, len))) = ControlEvent::decode(&bytes) {
                prop_assert!(len <= bytes.len());
            }
        }
    }

    #[test]
    fn texts_of_too_large_event_are_shortened() {
        let long = || "x".repeat(2 * MAX_LEN);
        let message = "out of range".to_owned();
        let panic =
            || PanicReport { message: message.clone(), location: None, backtrace: Some(long()) };
        let panicked = InitError::Panicked(panic());
        let events = [
            ControlEvent::Panicked(panic()),
            ControlEvent::Failed(StartFailure::Init(panicked)),
            ControlEvent::Failed(StartFailure::Init(InitError::Failed { why: long() })),
            ControlEvent::Failed(StartFailure::UnknownWorkerType { offers: vec![long(), long()] }),
        ];

        for event in events {
            let bytes = event.encode();
            let (decoded, len) = ControlEvent::decode(&bytes)
                .expect("the event is valid")
                .expect("the event is complete");

            assert_eq!(len, bytes.len());
            let expected = event.shortened();
            assert!(decoded == expected && decoded != event, "{expected:?}");
        }
    }

    #[test]
    fn truncated_event_is_incomplete() {
        let why = "no such directory".to_owned();
        let event = ControlEvent::Failed(StartFailure::CurrentDir { why });
        let bytes = event.encode();

        let decoded = [4, bytes.len() - 1].map(|len| ControlEvent::decode(&bytes[..len]));

        assert!(decoded.iter().all(|it| matches!(it, Ok(None))), "{decoded:?}");
        assert_eq!(
            ControlEvent::decode(&bytes).expect("the event is valid"),
            Some((event, bytes.len()))
        );
    }
}
