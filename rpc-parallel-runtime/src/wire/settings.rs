//! The settings that both ends of a connection share.

use serde::{Deserialize, Serialize};

/// The least that `max_message_size` may be: small arguments must always pass.
const SMALLEST: usize = 1024;

/// The most that `max_message_size` may be: lengths travel in 32 bits, and leave room for fields.
const LARGEST: usize = u32::MAX as usize - 1024 * 1024;

/// What both ends of a connection agree on.
///
/// A worker has the settings of the process that started it, and its connections have those of
/// the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    max_message_size: usize,
}

/// A setting has a value that is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("max_message_size is {value} bytes, and must be between {SMALLEST} and {LARGEST}")]
pub struct SettingsError {
    value: usize,
}

impl Settings {
    /// Returns the largest message that travels, in bytes: the arguments of a call, or its result.
    ///
    /// 100 MiB unless set, as in the original.
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
        if (SMALLEST..=LARGEST).contains(&max_message_size) {
            Ok(Self { max_message_size })
        } else {
            Err(SettingsError { value: max_message_size })
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_message_size: 100 * 1024 * 1024 }
    }
}
