//! The start message, which a master sends to a new worker over the control socket.
//!
//! ```text
//! greeting:16 start length:4 init length:4 start.. init..     and descriptors
//! ```
//!
//! The worker answers with the [control events](super::control_event) `Hello` and `Started`. All of
//! it is plain functions of bytes.

use std::ffi::OsString;

use super::flavor::RuntimeFlavor;
use super::job_keeper::JobKeeper;
use super::panics::PanicPolicy;
use super::redirect::Output;
use super::set_up::SetUp;
use crate::wire::{
    Greeting, GreetingError, MalformedMessage, Overrides, Settings, Sink, TooLarge, WorkerId,
    WorkerTypeId, fields, read_message, write_message,
};

/// The length of a [`Header`], in bytes.
pub(super) const HEADER_LEN: usize = 24;

/// The maximum length of a start message or a control event, in bytes.
pub(super) const MAX_LEN: usize = 1024 * 1024;

/// The start message of a worker, without the argument of its `init`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Start {
    pub(crate) id: WorkerId,
    pub(crate) name: Option<String>,
    /// The index of the worker in its pool.
    pub(crate) worker_index: Option<u64>,
    pub(crate) worker_type: WorkerTypeId,
    pub(crate) lifetime: Lifetime,
    pub(crate) panics: PanicPolicy,
    pub(crate) settings: Settings,
    pub(crate) flavor: RuntimeFlavor,
    pub(crate) spawn_defaults: SpawnDefaults,
    /// The process id of the master.
    pub(crate) master: u32,
    pub(crate) set_up: SetUp,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    /// The keeper of the program's jobs. If there is one, the last descriptor of the message is the
    /// socket by which the worker reaches it.
    pub(crate) job_keeper: Option<JobKeeper>,
}

/// The lifetime of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    /// The worker ends with its owning connection, which came with the start message.
    WithConnection,
    /// The worker ends with its master, or when no other process can reach it.
    WithMaster,
    /// The worker ends on request, or when no other process can reach it.
    Detached,
}

/// The defaults with which a process starts workers. Workers inherit them for their own workers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SpawnDefaults {
    /// The program. Default: the running executable.
    pub(crate) program: Option<OsString>,
    /// The `argv[0]` of the program.
    pub(crate) arg0: Option<OsString>,
    /// The arguments of the program. Default: `worker-of-<pid of the master>`, and the name of the
    /// worker.
    pub(crate) arguments: Option<Vec<OsString>>,
    /// Whether the program prints to stdout before it becomes a worker.
    pub(crate) prints_before_worker_main: bool,
    /// The settings of workers whose spawner sets none. The overrides are already applied.
    pub(crate) settings: Settings,
    /// The overrides of all settings, also of those of a spawner.
    pub(crate) overrides: Overrides,
    pub(crate) worker_flavor: RuntimeFlavor,
    /// Whether workers install a `tracing` subscriber that keeps their logs.
    pub(crate) worker_logs: bool,
}

impl SpawnDefaults {
    /// Returns the settings of a worker, from those of its spawner, if it sets any.
    pub(crate) fn settings_for(&self, spawner_settings: Option<Settings>) -> Settings {
        spawner_settings.map_or(self.settings, |it| self.overrides.over(it))
    }
}

fields!(struct Start {
    id,
    name,
    worker_index,
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
    job_keeper,
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
/// The header of a start message, with the lengths of its parts.
pub(super) struct Header {
    pub(super) greeting: Greeting,
    pub(super) start_len: usize,
    pub(super) init_len: usize,
}

/// A message on the control socket could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    #[error("malformed message on the control socket")]
    Malformed(#[from] MalformedMessage),
    #[error("message on the control socket is too large")]
    TooLarge(#[from] TooLarge),
}

impl Start {
    /// Encodes the start message with its header, and appends the argument of `init`.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::launch::ResourceLimit;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_header_or_an_error(bytes in any::<[u8; HEADER_LEN]>()) {
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
            let bytes = start().encode(crate::worker::greeting(), b"").expect("the start message is short");
            let bytes = &bytes[HEADER_LEN..];

            prop_assert_eq!(Start::decode(bytes).expect("the start message is complete"), start());
            prop_assert!(Start::decode(&bytes[..cut.index(bytes.len())]).is_err());
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
            worker_index: Some(7),
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
            job_keeper: None,
        }
    }
}
