//! The settings that both ends of a connection share.

use serde::{Deserialize, Serialize};

/// The least that `max_message_size` may be: small arguments must always pass.
const SMALLEST: usize = 1024;

/// The most that `max_message_size` may be: lengths travel in 32 bits, and leave room for fields.
const LARGEST: usize = u32::MAX as usize - 1024 * 1024;

/// The most that the window of a stream may be.
pub(crate) const LARGEST_WINDOW: u32 = 1024 * 1024 * 1024;

/// What both ends of a connection agree on.
///
/// A worker has the settings of the process that started it, unless its spawner was given others,
/// and its connections have those of the worker.
///
/// ```
/// # use rpc_parallel_runtime as rpc_parallel;
/// # fn example() -> Result<(), rpc_parallel::SettingsError> {
/// use rpc_parallel::Settings;
///
/// let settings = Settings::default()
///     .with_max_message_size(1024 * 1024 * 1024)?
///     .with_stream_window(4 * 1024 * 1024)?;
/// // Ledger::spawner().settings(settings).start(path).await?
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    max_message_size: usize,
    stream_window: u32,
    other_builds: bool,
}

/// A setting has a value that is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} is {value} bytes, and must be between {least} and {most}")]
pub struct SettingsError {
    field: &'static str,
    value: usize,
    least: usize,
    most: usize,
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
    /// Less than 1 KiB and more than 4 GiB less 1 MiB are not allowed.
    pub fn with_max_message_size(self, max_message_size: usize) -> Result<Self, SettingsError> {
        check("max_message_size", max_message_size, SMALLEST, LARGEST)?;
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
        check("stream_window", bytes, 1, LARGEST_WINDOW as usize)?;
        Ok(Self { stream_window: bytes as u32, ..self })
    }

    /// Returns how often processes ask each other for a sign of life.
    #[must_use]
    pub fn liveness_interval(&self) -> std::time::Duration {
        std::time::Duration::from_secs(10)
    }

    /// Returns for how long a process may give no sign of life until it is lost.
    #[must_use]
    pub fn liveness_timeout(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_secs(30))
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
}

fn check(
    field: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), SettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsError { field, value, least, most })
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_message_size: 100 * 1024 * 1024, stream_window: 256 * 1024, other_builds: false }
    }
}
