//! The settings that a worker, its master and all processes that connect to the worker share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::busy_poll::{self, BusyPoll};
use super::field::{self, MalformedMessage, Unread, fields};
use super::quantity::write_duration;
use super::setting::{Count, SettingsError, Size, Time, read_bool};
use super::sink::Sink;

/// The minimum leaves room for small arguments. Lengths travel in 32 bits: the maximum leaves room
/// for the other fields of a frame.
pub(super) const MAX_MESSAGE_SIZE: Size =
    Size { field: "max_message_size", min: 1024, max: 4095 * 1024 * 1024 };

/// The largest flow-control window of a stream, in bytes.
pub(crate) const LARGEST_WINDOW: u32 = 1024 * 1024 * 1024;

pub(super) const STREAM_WINDOW: Size =
    Size { field: "stream_window", min: 1, max: LARGEST_WINDOW as usize };

/// The minimum leaves room for a frame of several elements.
pub(super) const CONNECTION_WINDOW: Size =
    Size { field: "connection_window", min: 64 * 1024, max: 1024 * 1024 * 1024 * 1024 };

pub(super) const MAX_CALLS: Count = Count { field: "max_calls", min: 1, max: 1 << 30 };

pub(super) const MAX_ONE_WAY_CALLS: Count =
    Count { field: "max_one_way_calls", min: 1, max: 1 << 30 };

pub(super) const MAX_PIPES: Count = Count { field: "max_pipes", min: 1, max: 1 << 30 };

const OTHER_BUILDS: &str = "other_builds";

const HEARTBEAT_INTERVAL: Time = Time { field: "heartbeat_interval", or_never: false };

const HEARTBEAT_TIMEOUT: Time = Time { field: "heartbeat_timeout", or_never: true };

const HANDSHAKE_TIMEOUT: Time = Time { field: "handshake_timeout", or_never: false };

/// The maximum bounds the number of processes that a program can start by mistake.
const MAX_DEPTH: Count = Count { field: "max_depth", min: 1, max: 4096 };

const KEPT_JOB_RESULTS: Size =
    Size { field: "kept_job_results", min: 1024, max: 4095 * 1024 * 1024 };

/// The least number of heartbeats within [`heartbeat_timeout`](Settings::heartbeat_timeout).
const HEARTBEATS_PER_TIMEOUT: u32 = 3;

/// The settings that a worker, its master and all processes that connect to the worker share.
///
/// A program sets them with `#[entry(settings = ..)]` or [`MasterBuilder::settings`]. A worker
/// inherits the settings of the process that starts it, unless [`Spawner::settings`] gives it
/// others. Its connections and the workers that it starts use the settings of the worker.
///
/// Sizes, windows and counts limit what a process receives. Each end of a connection announces its
/// own limits when the connection is opened, and keeps to those of the other end, which may differ.
///
/// The setters accept any value. The settings are [validated](Self::validate) once, where they are
/// used: when a program or a server starts, and when a worker is spawned.
///
/// ```
/// # fn example() -> Result<(), rpc_parallel::error::SettingsError> {
/// use rpc_parallel::Settings;
///
/// let settings = Settings::default()
///     .with_max_message_size(1024 * 1024 * 1024)
///     .with_stream_window(4 * 1024 * 1024);
/// // Ledger::spawner().settings(settings).start(path).await?
/// assert_eq!(settings, "max_message_size=1GiB,stream_window=4MiB".parse()?);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
///
/// # Text form
///
/// [`Display`](fmt::Display) writes, and [`FromStr`] reads, a list of fields with their values.
/// Sizes are numbers of bytes (`1500`) or have a unit (`64KiB`, `100MiB`, `1GiB`). Durations have a
/// unit (`50us`, `250ms`, `2s`, `1m`, `1h`); a timeout may be `never`. Fields that are missing have their
/// defaults. Values out of range are errors.
///
/// # Environment
///
/// When a master starts, it reads fields from the environment variable `RPC_PARALLEL_SETTINGS`, if
/// it is set. These fields override the program's own settings in the master, its workers, and
/// their workers:
///
/// ```text
/// RPC_PARALLEL_SETTINGS=max_message_size=1500,heartbeat_timeout=never ./program
/// ```
///
/// Workers do not read the variable. [`Worker::settings`] returns the effective settings of a
/// worker, the same in every process.
///
/// [`MasterBuilder::settings`]: crate::MasterBuilder::settings
/// [`Spawner::settings`]: crate::Spawner::settings
/// [`Worker::settings`]: crate::Worker::settings
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Settings(Fields);

/// The fields of [`Settings`], which need not be in their ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename = "Settings")]
struct Fields {
    max_message_size: usize,
    stream_window: usize,
    connection_window: usize,
    max_calls: u32,
    max_one_way_calls: u32,
    max_pipes: u32,
    other_builds: bool,
    heartbeat_interval: Duration,
    heartbeat_timeout: Option<Duration>,
    handshake_timeout: Duration,
    max_depth: u32,
    kept_job_results: usize,
    busy_poll: BusyPoll,
}

fields!(struct Fields {
    max_message_size,
    stream_window,
    connection_window,
    max_calls,
    max_one_way_calls,
    max_pipes,
    other_builds,
    heartbeat_interval,
    heartbeat_timeout,
    handshake_timeout,
    max_depth,
    kept_job_results,
    busy_poll,
});

impl Default for Fields {
    fn default() -> Self {
        Self {
            max_message_size: 100 * 1024 * 1024,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024 * 1024,
            max_calls: 1024 * 1024,
            max_one_way_calls: 64 * 1024,
            max_pipes: 64 * 1024,
            other_builds: false,
            heartbeat_interval: Duration::from_secs(10),
            heartbeat_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(30),
            max_depth: 64,
            kept_job_results: 256 * 1024 * 1024,
            busy_poll: BusyPoll::Auto,
        }
    }
}

impl Settings {
    /// The largest [`max_message_size`](Self::max_message_size) that is valid, in bytes.
    #[cfg(feature = "pool")]
    pub(crate) const MAX_MESSAGE_SIZE: usize = MAX_MESSAGE_SIZE.max;

    /// Returns the size limit of a message, in bytes. Default: 100 MiB.
    ///
    /// A message is the arguments of a call, its result, an element of a pipe, or the argument of
    /// an `init`. The limit is checked before a message is sent, and before memory is allocated for
    /// a message that arrives. The smaller limit of both ends of a connection applies, except to the
    /// argument of an `init`, which is sent before the limit of the worker is known. If a message exceeds the limit, its call or element fails, and the
    /// connection stays open.
    #[must_use]
    pub fn max_message_size(&self) -> usize {
        self.0.max_message_size
    }

    /// Sets the size limit of a message, in bytes: from 1 KiB to 4095 MiB. Default: 100 MiB.
    #[must_use]
    pub fn with_max_message_size(self, bytes: usize) -> Self {
        Self(Fields { max_message_size: bytes, ..self.0 })
    }

    /// Returns the flow-control window of a stream, in bytes. Default: 256 KiB.
    ///
    /// A writer may send this many bytes that the reader has not consumed yet. The process that
    /// reads the stream grants the window. If a reader is slow,
    /// each end of its pipe holds at most this many bytes and one element. A larger window raises
    /// the throughput of a pipe with a high latency, because the writer waits less for credit.
    /// [`Pipe::with_window`](crate::Pipe::with_window) sets the window of one pipe.
    #[must_use]
    pub fn stream_window(&self) -> usize {
        self.0.stream_window
    }

    /// Sets the flow-control window of a stream, in bytes: from 1 byte to 1 GiB. Default: 256 KiB.
    #[must_use]
    pub fn with_stream_window(self, bytes: usize) -> Self {
        Self(Fields { stream_window: bytes, ..self.0 })
    }

    /// Returns the flow-control window of a connection, in bytes. Default: 1 GiB.
    ///
    /// All writers of one end together may send this many bytes that their readers have not
    /// consumed yet, in addition to the limit of each [stream](Self::stream_window). Beyond it,
    /// writers wait until any of the readers has read. The process that reads grants the window. So it bounds the memory that all pipes of a
    /// connection take up at each end.
    #[must_use]
    pub fn connection_window(&self) -> usize {
        self.0.connection_window
    }

    /// Sets the flow-control window of a connection, in bytes: from 64 KiB to 1 TiB. Default:
    /// 1 GiB.
    #[must_use]
    pub fn with_connection_window(self, bytes: usize) -> Self {
        Self(Fields { connection_window: bytes, ..self.0 })
    }

    /// Returns how many calls of a connection may wait for their answers. Default: 1,048,576.
    ///
    /// The limit of the worker applies. Further calls are not sent before others are answered. Their
    /// timeouts run meanwhile.
    #[must_use]
    pub fn max_calls(&self) -> u32 {
        self.0.max_calls
    }

    /// Sets how many calls of a connection may wait for their answers: from 1 to 2^30. Default:
    /// 1,048,576.
    ///
    #[must_use]
    pub fn with_max_calls(self, calls: u32) -> Self {
        Self(Fields { max_calls: calls, ..self.0 })
    }

    /// Returns how many one-way calls of a connection may be sent before their functions have
    /// completed. Default: 65,536.
    ///
    /// The limit of the worker applies. Further one-way calls are not sent before others have
    /// completed. So it bounds the memory of
    /// a worker whose one-way functions are slower than their callers.
    #[must_use]
    pub fn max_one_way_calls(&self) -> u32 {
        self.0.max_one_way_calls
    }

    /// Sets how many one-way calls of a connection may be sent before their functions have
    /// completed: from 1 to 2^30. Default: 65,536.
    #[must_use]
    pub fn with_max_one_way_calls(self, calls: u32) -> Self {
        Self(Fields { max_one_way_calls: calls, ..self.0 })
    }

    /// Returns how many pipes of a connection may be open. Default: 65,536.
    ///
    /// The smaller limit of both ends applies. A call that would open more fails before it is sent,
    /// and a result that would open more is an error of its call. A pipe that this process writes is
    /// open until its end is sent, behind its last elements.
    #[must_use]
    pub fn max_pipes(&self) -> u32 {
        self.0.max_pipes
    }

    /// Sets how many pipes of a connection may be open: from 1 to 2^30. Default: 65,536.
    #[must_use]
    pub fn with_max_pipes(self, pipes: u32) -> Self {
        Self(Fields { max_pipes: pipes, ..self.0 })
    }

    /// Returns whether processes of another build may connect. Default: `false`.
    #[must_use]
    pub fn other_builds(&self) -> bool {
        self.0.other_builds
    }

    /// Sets whether processes of another build may connect. Default: `false`.
    ///
    /// Another build is another version of the program, or another program. Each call then succeeds
    /// if the worker has a function with the same id. For a function with a
    /// [fixed id](https://docs.rs/rpc-parallel/latest/rpc_parallel/attr.worker.html) the types are
    /// compared as written: see [`WorkerAddress`](crate::WorkerAddress).
    #[must_use]
    pub fn with_other_builds(self, other_builds: bool) -> Self {
        Self(Fields { other_builds, ..self.0 })
    }

    /// Returns the time between two heartbeats. Default: 10 s.
    ///
    /// Master and worker exchange heartbeats at least three times within
    /// [`heartbeat_timeout`](Self::heartbeat_timeout), also where this interval is longer.
    #[must_use]
    pub fn heartbeat_interval(&self) -> Duration {
        self.0.heartbeat_interval
    }

    /// Sets the time between two heartbeats: from 10 ms to 365 days. Default: 10 s.
    #[must_use]
    pub fn with_heartbeat_interval(self, interval: Duration) -> Self {
        Self(Fields { heartbeat_interval: interval, ..self.0 })
    }

    /// Returns how long a worker or its master may miss heartbeats before the other considers it
    /// dead; `None` if heartbeats never time out. Default: 30 s.
    ///
    /// For a worker the time begins with a heartbeat that it does not answer. For a master it
    /// begins when its next heartbeat is due. Dedicated threads send and answer heartbeats, so a
    /// process whose functions compute or block misses none. A process that is stopped misses
    /// heartbeats. The time in which the machine is suspended does not count.
    #[must_use]
    pub fn heartbeat_timeout(&self) -> Option<Duration> {
        self.0.heartbeat_timeout
    }

    /// Sets how long a worker or its master may miss heartbeats before the other considers it dead:
    /// from 10 ms to 365 days, or `None` for no limit. Default: 30 s.
    #[must_use]
    pub fn with_heartbeat_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self(Fields { heartbeat_timeout: timeout.into(), ..self.0 })
    }

    /// Returns the effective time between two heartbeats, which a short timeout shortens.
    pub(crate) fn heartbeat_period(&self) -> Duration {
        let longest = self.0.heartbeat_timeout.map(|it| it / HEARTBEATS_PER_TIMEOUT);
        longest.map_or(self.0.heartbeat_interval, |it| it.min(self.0.heartbeat_interval))
    }

    /// Returns how long each end of a new connection waits for the other's handshake. Default:
    /// 30 s.
    ///
    /// A process that connects waits this long for the worker to accept its request, and then
    /// without limit for the `init` of the connection state. The worker waits this long for the
    /// request.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        self.0.handshake_timeout
    }

    /// Sets how long each end of a new connection waits for the other's handshake: from 10 ms to
    /// 365 days. Default: 30 s.
    #[must_use]
    pub fn with_handshake_timeout(self, timeout: Duration) -> Self {
        Self(Fields { handshake_timeout: timeout, ..self.0 })
    }

    /// Returns how many levels of workers there may be below the first master. Default: 64.
    ///
    /// The workers of a program are at depth 1, the workers that they start at depth 2, and so on.
    /// A process at the depth of this limit cannot start workers: `spawn` and `start` fail with
    /// [`TooDeep`](crate::SpawnErrorKind::TooDeep). The limit of the process that starts the worker
    /// applies.
    ///
    /// The depth travels in the environment variable `RPC_PARALLEL_WORKER`. So it also counts if a
    /// worker starts another program of this framework by [`std::process::Command`], and if a
    /// process fails to detect that it was started as a worker. This limits a program that starts
    /// itself by mistake. If a process removes the variable from the environment of its children,
    /// they start at depth 0.
    #[must_use]
    pub fn max_depth(&self) -> u32 {
        self.0.max_depth
    }

    /// Sets how many levels of workers there may be below the first master: from 1 to 4096.
    /// Default: 64.
    #[must_use]
    pub fn with_max_depth(self, levels: u32) -> Self {
        Self(Fields { max_depth: levels, ..self.0 })
    }

    /// Returns the size limit of all results of jobs that have not been joined, in bytes. Default:
    /// 256 MiB.
    ///
    /// The process at the top of the tree keeps these results, with 256 bytes more for each. Beyond
    /// the limit it drops the oldest. The settings of the program apply, and not those of a spawner.
    #[must_use]
    pub fn kept_job_results(&self) -> usize {
        self.0.kept_job_results
    }

    /// Sets the size limit of all results of jobs that have not been joined, in bytes: from 1 KiB to
    /// 4095 MiB. Default: 256 MiB.
    #[must_use]
    pub fn with_kept_job_results(self, bytes: usize) -> Self {
        Self(Fields { kept_job_results: bytes, ..self.0 })
    }

    /// Returns whether a process looks for the next message of a connection for a short time before
    /// it sleeps. Default: [`BusyPoll::Auto`].
    ///
    /// Waking a core that sleeps takes some 50 µs on a virtual machine. A process that polls
    /// receives an answer without that: a call between two cores takes a tenth of the time. In
    /// return the process uses its core while it polls.
    ///
    /// [`BusyPoll::Auto`] stops polling where it does not pay: beyond the time that earlier polls
    /// have saved, polls in vain take at most 0.5 % of the time. So a process begins to poll some 20 ms
    /// after its first call. Other tasks of the process come first. A process that may run on one core only does not poll, and neither do runtimes with
    /// several threads.
    #[must_use]
    pub fn busy_poll(&self) -> BusyPoll {
        self.0.busy_poll
    }

    /// Sets whether a process looks for the next message of a connection for a short time before it
    /// sleeps. Default: [`BusyPoll::Auto`].
    ///
    /// [`BusyPoll::For`] a duration polls that long each time, also in a process that may run on
    /// one core only.
    #[must_use]
    pub fn with_busy_poll(self, busy_poll: BusyPoll) -> Self {
        Self(Fields { busy_poll, ..self.0 })
    }

    /// Checks that every field is in its range.
    ///
    /// Masters, servers and spawners validate their settings themselves. A program needs this
    /// function only to reject settings earlier, for example those of a configuration file.
    ///
    /// # Errors
    ///
    /// A field is out of range. The error names the first such field, its value, and the allowed
    /// range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        MAX_MESSAGE_SIZE.check(self.0.max_message_size)?;
        STREAM_WINDOW.check(self.0.stream_window)?;
        CONNECTION_WINDOW.check(self.0.connection_window)?;
        MAX_CALLS.check(self.0.max_calls)?;
        MAX_ONE_WAY_CALLS.check(self.0.max_one_way_calls)?;
        MAX_PIPES.check(self.0.max_pipes)?;
        HEARTBEAT_INTERVAL.check(self.0.heartbeat_interval)?;
        HEARTBEAT_TIMEOUT.check_or_never(self.0.heartbeat_timeout)?;
        HANDSHAKE_TIMEOUT.check(self.0.handshake_timeout)?;
        MAX_DEPTH.check(self.0.max_depth)?;
        KEPT_JOB_RESULTS.check(self.0.kept_job_results)?;
        self.0.busy_poll.check()?;
        Ok(())
    }

    /// Sets the fields that a text holds; the others keep their values.
    pub(super) fn set_all(self, text: &str) -> Result<Self, SettingsError> {
        let mut settings = self;
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            let unknown = || SettingsError::unknown(name, FIELDS.map(|it| it.name).into());
            let field = FIELDS.iter().find(|it| it.name == name).ok_or_else(unknown)?;
            if seen.contains(&name) {
                return Err(SettingsError::twice(name));
            }
            seen.push(name);
            settings = (field.set)(settings, value)?;
        }
        Ok(settings)
    }
}

impl TryFrom<Fields> for Settings {
    type Error = SettingsError;

    fn try_from(fields: Fields) -> Result<Self, SettingsError> {
        let settings = Self(fields);
        settings.validate()?;
        Ok(settings)
    }
}

impl From<Settings> for Fields {
    fn from(Settings(fields): Settings) -> Self {
        fields
    }
}

impl field::Field for Settings {
    fn write(&self, sink: &mut Sink<'_>) {
        self.0.write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        Self::try_from(Fields::read(unread)?).map_err(|_| unread.out_of_range("settings"))
    }
}

/// One setting, as text.
struct Field {
    name: &'static str,
    set: fn(Settings, &str) -> Result<Settings, SettingsError>,
    get: fn(&Settings) -> String,
}

const FIELDS: [Field; 13] = [
    Field {
        name: MAX_MESSAGE_SIZE.field,
        set: |it, text| Ok(it.with_max_message_size(MAX_MESSAGE_SIZE.read(text)?)),
        get: |it| it.0.max_message_size.to_string(),
    },
    Field {
        name: STREAM_WINDOW.field,
        set: |it, text| Ok(it.with_stream_window(STREAM_WINDOW.read(text)?)),
        get: |it| it.0.stream_window.to_string(),
    },
    Field {
        name: CONNECTION_WINDOW.field,
        set: |it, text| Ok(it.with_connection_window(CONNECTION_WINDOW.read(text)?)),
        get: |it| it.0.connection_window.to_string(),
    },
    Field {
        name: MAX_CALLS.field,
        set: |it, text| Ok(it.with_max_calls(MAX_CALLS.read(text)?)),
        get: |it| it.0.max_calls.to_string(),
    },
    Field {
        name: MAX_ONE_WAY_CALLS.field,
        set: |it, text| Ok(it.with_max_one_way_calls(MAX_ONE_WAY_CALLS.read(text)?)),
        get: |it| it.0.max_one_way_calls.to_string(),
    },
    Field {
        name: MAX_PIPES.field,
        set: |it, text| Ok(it.with_max_pipes(MAX_PIPES.read(text)?)),
        get: |it| it.0.max_pipes.to_string(),
    },
    Field {
        name: HEARTBEAT_INTERVAL.field,
        set: |it, text| Ok(it.with_heartbeat_interval(HEARTBEAT_INTERVAL.read(text)?)),
        get: |it| write_duration(it.0.heartbeat_interval),
    },
    Field {
        name: HEARTBEAT_TIMEOUT.field,
        set: |it, text| Ok(it.with_heartbeat_timeout(HEARTBEAT_TIMEOUT.read_or_never(text)?)),
        get: |it| Time::write_or_never(it.0.heartbeat_timeout),
    },
    Field {
        name: HANDSHAKE_TIMEOUT.field,
        set: |it, text| Ok(it.with_handshake_timeout(HANDSHAKE_TIMEOUT.read(text)?)),
        get: |it| write_duration(it.0.handshake_timeout),
    },
    Field {
        name: MAX_DEPTH.field,
        set: |it, text| Ok(it.with_max_depth(MAX_DEPTH.read(text)?)),
        get: |it| it.0.max_depth.to_string(),
    },
    Field {
        name: KEPT_JOB_RESULTS.field,
        set: |it, text| Ok(it.with_kept_job_results(KEPT_JOB_RESULTS.read(text)?)),
        get: |it| it.0.kept_job_results.to_string(),
    },
    Field {
        name: busy_poll::NAME,
        set: |it, text| Ok(it.with_busy_poll(BusyPoll::read_text(text)?)),
        get: |it| it.0.busy_poll.to_string(),
    },
    Field {
        name: OTHER_BUILDS,
        set: |it, text| Ok(it.with_other_builds(read_bool(OTHER_BUILDS, text)?)),
        get: |it| it.0.other_builds.to_string(),
    },
];

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({self})")
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = FIELDS.map(|it| format!("{}={}", it.name, (it.get)(self)));
        f.write_str(&fields.join(","))
    }
}

impl FromStr for Settings {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        Self::default().set_all(text)
    }
}

#[cfg(test)]
mod tests;
