//! The settings that all who deal with a worker share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::field::{self, MalformedMessage, Unread, fields};
use super::quantity::write_duration;
use super::setting::{Count, SettingsError, Size, Time, read_bool};
use super::sink::Sink;

/// Small arguments must always pass; lengths travel in 32 bits, and leave room for fields.
const MAX_MESSAGE_SIZE: Size =
    Size { field: "max_message_size", least: 1024, most: 4095 * 1024 * 1024 };

/// The most that the window of a stream may be.
pub(crate) const LARGEST_WINDOW: u32 = 1024 * 1024 * 1024;

const STREAM_WINDOW: Size =
    Size { field: "stream_window", least: 1, most: LARGEST_WINDOW as usize };

const OTHER_BUILDS: &str = "other_builds";

const HEARTBEAT_INTERVAL: Time = Time { field: "heartbeat_interval", or_never: false };

const HEARTBEAT_TIMEOUT: Time = Time { field: "heartbeat_timeout", or_never: true };

const HANDSHAKE_TIMEOUT: Time = Time { field: "handshake_timeout", or_never: false };

/// The most is what guards a machine against a mistake.
const MAX_DEPTH: Count = Count { field: "max_depth", least: 1, most: 4096 };

/// How many beats go out within the time after which a silent peer is lost.
const HEARTBEATS_PER_TIMEOUT: u32 = 3;

/// What a worker, its master and all who connect to it agree on.
///
/// A program sets them with `#[entry(settings = ..)]` or [`Master::settings`]. A worker has those
/// of the process that started it, unless its spawner was given others, and its connections and
/// the workers that it starts have its own.
///
/// ```
/// # fn example() -> Result<(), rpc_parallel::error::SettingsError> {
/// use rpc_parallel::Settings;
///
/// let settings = Settings::default()
///     .with_max_message_size(1024 * 1024 * 1024)?
///     .with_stream_window(4 * 1024 * 1024)?;
/// // Ledger::spawner().settings(settings).start(path).await?
/// assert_eq!(settings, "max_message_size=1GiB,stream_window=4MiB".parse()?);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
///
/// # As text
///
/// A list of fields and their values, as it is printed and read back. Sizes are written as bytes
/// (`1500`) or with a unit (`64KiB`, `100MiB`, `1GiB`), times with a unit (`250ms`, `2s`, `1m`,
/// `1h`) or as `never`; fields that are not written have their defaults.
///
/// # The environment
///
/// A master that begins with `RPC_PARALLEL_SETTINGS` in its environment takes those fields from
/// there, whatever the program says, for itself, for its workers, and for theirs:
///
/// ```text
/// RPC_PARALLEL_SETTINGS=max_message_size=1500,heartbeat_timeout=never ./program
/// ```
///
/// Workers do not read the variable. What holds in the end is what [`Worker::settings`] returns,
/// the same in every process.
///
/// [`Master::settings`]: crate::Master::settings
/// [`Worker::settings`]: crate::Worker::settings
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Settings {
    max_message_size: usize,
    stream_window: u32,
    other_builds: bool,
    heartbeat_interval: Duration,
    heartbeat_timeout: Option<Duration>,
    handshake_timeout: Duration,
    max_depth: u32,
}

impl Settings {
    /// Returns the largest message that travels, in bytes: the arguments of a call, its result, an
    /// element of a pipe, or what an `init` is given.
    ///
    /// 100 MiB unless set, as in the original. It is checked before a message is sent and before
    /// memory is allocated for one that comes; what is larger fails that call or element, and
    /// nothing else.
    #[must_use]
    pub fn max_message_size(&self) -> usize {
        self.max_message_size
    }

    /// Sets the largest message that travels, in bytes.
    ///
    /// # Errors
    ///
    /// Less than 1 KiB and more than 4095 MiB are not allowed.
    pub fn with_max_message_size(self, max_message_size: usize) -> Result<Self, SettingsError> {
        let max_message_size = MAX_MESSAGE_SIZE.check(max_message_size)?;
        Ok(Self { max_message_size, ..self })
    }

    /// Returns how much of a stream may be on its way before its reader has read it, in bytes.
    ///
    /// 256 KiB unless set. It bounds what a pipe whose reader is slow holds in memory, at both
    /// ends, beside one element. More lets a writer far from its reader write on while word of
    /// what was read is on its way. [`Pipe::with_window`](crate::Pipe::with_window) sets it for
    /// one pipe.
    #[must_use]
    pub fn stream_window(&self) -> usize {
        self.stream_window as usize
    }

    /// Sets how much of a stream may be on its way before its reader has read it, in bytes.
    ///
    /// # Errors
    ///
    /// None at all, and more than 1 GiB, are not allowed.
    pub fn with_stream_window(self, bytes: usize) -> Result<Self, SettingsError> {
        let stream_window = STREAM_WINDOW.check(bytes)? as u32;
        Ok(Self { stream_window, ..self })
    }

    /// Says whether processes of another build may connect.
    #[must_use]
    pub fn other_builds(&self) -> bool {
        self.other_builds
    }

    /// Lets processes of another build connect, or not, which is the default.
    ///
    /// Another build may be another version of the program or another program. Ids decide then,
    /// function by function, and for functions whose id is
    /// [fixed](https://docs.rs/rpc-parallel/latest/rpc_parallel/attr.worker.html) the types are
    /// compared as written: see [`WorkerAddress`](crate::WorkerAddress).
    #[must_use]
    pub fn with_other_builds(self, other_builds: bool) -> Self {
        Self { other_builds, ..self }
    }

    /// Returns how often a master and its worker ask each other whether they live.
    ///
    /// 10 seconds unless set. They ask three times within
    /// [`heartbeat_timeout`](Self::heartbeat_timeout) even where this is longer.
    #[must_use]
    pub fn heartbeat_interval(&self) -> Duration {
        self.heartbeat_interval
    }

    /// Sets how often a master and its worker ask each other whether they live.
    ///
    /// # Errors
    ///
    /// Less than 10 milliseconds and more than a year are not allowed.
    pub fn with_heartbeat_interval(self, interval: Duration) -> Result<Self, SettingsError> {
        let heartbeat_interval = HEARTBEAT_INTERVAL.check(interval)?;
        Ok(Self { heartbeat_interval, ..self })
    }

    /// Returns how long a worker or its master may be silent before the other takes it for lost;
    /// `None` if it never does.
    ///
    /// 30 seconds unless set, from when a worker was asked for a sign of life, or from when its
    /// master should have asked. Functions that compute or block are not silence, whatever they hold
    /// up; a process that is stopped is.
    #[must_use]
    pub fn heartbeat_timeout(&self) -> Option<Duration> {
        self.heartbeat_timeout
    }

    /// Sets how long a worker or its master may be silent before the other takes it for lost;
    /// `None` if it never does.
    ///
    /// # Errors
    ///
    /// Less than 10 milliseconds and more than a year are not allowed.
    pub fn with_heartbeat_timeout(
        self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Self, SettingsError> {
        let heartbeat_timeout = timeout.into().map(|it| HEARTBEAT_TIMEOUT.check(it)).transpose()?;
        Ok(Self { heartbeat_timeout, ..self })
    }

    /// Returns how often the two really ask: a timeout that is short in comparison makes it often.
    pub(crate) fn heartbeat_period(&self) -> Duration {
        let often = self.heartbeat_timeout.map(|it| it / HEARTBEATS_PER_TIMEOUT);
        often.map_or(self.heartbeat_interval, |it| it.min(self.heartbeat_interval))
    }

    /// Returns how long the two ends of a new connection wait for each other's first words.
    ///
    /// 30 seconds unless set. Who connects waits so long until the worker has heard what is wanted,
    /// and then for as long as the `init` of the connection's state takes. The worker waits so long
    /// until that has been said.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Sets how long the two ends of a new connection wait for each other's first words.
    ///
    /// # Errors
    ///
    /// Less than 10 milliseconds and more than a year are not allowed.
    pub fn with_handshake_timeout(self, timeout: Duration) -> Result<Self, SettingsError> {
        let handshake_timeout = HANDSHAKE_TIMEOUT.check(timeout)?;
        Ok(Self { handshake_timeout, ..self })
    }

    /// Returns how many levels of workers there may be below the first master.
    ///
    /// Default: 64 levels. The workers of a program are at depth 1, the workers that they start at
    /// depth 2, and so on. A process at this depth cannot start workers: `spawn` and `start` fail
    /// with [`TooDeep`](crate::SpawnErrorKind::TooDeep). The limit that counts is that of the
    /// process that starts the worker.
    ///
    /// The depth travels in the environment variable `RPC_PARALLEL_WORKER`, so it also counts where
    /// a worker starts another program of this framework by [`std::process::Command`], and where a
    /// process does not know that it was started as a worker. That bounds a program that starts
    /// itself by mistake. A process that removes the variable from the environment of its children
    /// makes them start at depth 0.
    #[must_use]
    pub fn max_depth(&self) -> u32 {
        self.max_depth
    }

    /// Sets how many levels of workers there may be below the first master.
    ///
    /// # Errors
    ///
    /// The minimum is 1, the maximum 4096.
    pub fn with_max_depth(self, levels: u32) -> Result<Self, SettingsError> {
        let max_depth = MAX_DEPTH.check(levels)?;
        Ok(Self { max_depth, ..self })
    }

    /// Sets what is written in a text, and leaves the rest as it is.
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message_size: 100 * 1024 * 1024,
            stream_window: 256 * 1024,
            other_builds: false,
            heartbeat_interval: Duration::from_secs(10),
            heartbeat_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(30),
            max_depth: 64,
        }
    }
}

/// Settings as another process has written them: another program, perhaps, or by hand.
#[derive(Deserialize)]
#[serde(default, rename = "Settings")]
struct Unchecked {
    max_message_size: usize,
    stream_window: usize,
    other_builds: bool,
    heartbeat_interval: Duration,
    heartbeat_timeout: Option<Duration>,
    handshake_timeout: Duration,
    max_depth: u32,
}

impl Default for Unchecked {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl From<Settings> for Unchecked {
    fn from(settings: Settings) -> Self {
        let Settings {
            max_message_size,
            stream_window,
            other_builds,
            heartbeat_interval,
            heartbeat_timeout,
            handshake_timeout,
            max_depth,
        } = settings;
        Self {
            max_message_size,
            stream_window: stream_window as usize,
            other_builds,
            heartbeat_interval,
            heartbeat_timeout,
            handshake_timeout,
            max_depth,
        }
    }
}

fields!(struct Unchecked {
    max_message_size,
    stream_window,
    other_builds,
    heartbeat_interval,
    heartbeat_timeout,
    handshake_timeout,
    max_depth,
});

impl field::Field for Settings {
    fn write(&self, sink: &mut Sink<'_>) {
        Unchecked::from(*self).write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let settings = Unchecked::read(unread)?;
        settings.try_into().map_err(|_| unread.out_of_range("settings"))
    }
}

impl TryFrom<Unchecked> for Settings {
    type Error = SettingsError;

    fn try_from(unchecked: Unchecked) -> Result<Self, SettingsError> {
        Self::default()
            .with_max_message_size(unchecked.max_message_size)?
            .with_stream_window(unchecked.stream_window)?
            .with_other_builds(unchecked.other_builds)
            .with_heartbeat_interval(unchecked.heartbeat_interval)?
            .with_heartbeat_timeout(unchecked.heartbeat_timeout)?
            .with_handshake_timeout(unchecked.handshake_timeout)?
            .with_max_depth(unchecked.max_depth)
    }
}

/// One setting, as text.
struct Field {
    name: &'static str,
    set: fn(Settings, &str) -> Result<Settings, SettingsError>,
    get: fn(&Settings) -> String,
}

const FIELDS: [Field; 7] = [
    Field {
        name: MAX_MESSAGE_SIZE.field,
        set: |it, text| it.with_max_message_size(MAX_MESSAGE_SIZE.read(text)?),
        get: |it| it.max_message_size.to_string(),
    },
    Field {
        name: STREAM_WINDOW.field,
        set: |it, text| it.with_stream_window(STREAM_WINDOW.read(text)?),
        get: |it| it.stream_window.to_string(),
    },
    Field {
        name: HEARTBEAT_INTERVAL.field,
        set: |it, text| it.with_heartbeat_interval(HEARTBEAT_INTERVAL.read(text)?),
        get: |it| write_duration(it.heartbeat_interval),
    },
    Field {
        name: HEARTBEAT_TIMEOUT.field,
        set: |it, text| it.with_heartbeat_timeout(HEARTBEAT_TIMEOUT.read_or_never(text)?),
        get: |it| Time::write_or_never(it.heartbeat_timeout),
    },
    Field {
        name: HANDSHAKE_TIMEOUT.field,
        set: |it, text| it.with_handshake_timeout(HANDSHAKE_TIMEOUT.read(text)?),
        get: |it| write_duration(it.handshake_timeout),
    },
    Field {
        name: MAX_DEPTH.field,
        set: |it, text| it.with_max_depth(MAX_DEPTH.read(text)?),
        get: |it| it.max_depth.to_string(),
    },
    Field {
        name: OTHER_BUILDS,
        set: |it, text| Ok(it.with_other_builds(read_bool(OTHER_BUILDS, text)?)),
        get: |it| it.other_builds.to_string(),
    },
];

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
