//! The setting `busy_poll`: its values and their text form.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::field::{Field, MalformedMessage, Unread};
use super::quantity::{read_duration, write_duration};
use super::setting::SettingsError;
use super::sink::Sink;

/// The name of the setting.
pub(super) const NAME: &str = "busy_poll";

const AUTO: &str = "auto";

const NEVER: &str = "never";

const MIN: Duration = Duration::from_micros(1);

const MAX: Duration = Duration::from_secs(1);

/// Whether a process looks for the next message for a short time before it sleeps: see
/// [`Settings::busy_poll`](crate::Settings::busy_poll).
///
/// As text it is `auto`, `never` or a duration (`50us`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BusyPoll {
    /// Polls for up to 100 µs where it pays, and not after a read of 4 KiB or more.
    #[default]
    Auto,
    /// Does not poll.
    Never,
    /// Polls for up to this time, from 1 µs to 1 s, whenever a read finds nothing.
    For(Duration),
}

impl BusyPoll {
    pub(super) fn check(self) -> Result<Self, SettingsError> {
        match self {
            Self::For(time) if !(MIN..=MAX).contains(&time) => Err(wrong(&self.to_string())),
            _ => Ok(self),
        }
    }

    /// Reads a value, and checks it.
    pub(super) fn read_text(text: &str) -> Result<Self, SettingsError> {
        match text {
            AUTO => Ok(Self::Auto),
            NEVER => Ok(Self::Never),
            _ => Self::For(read_duration(text).ok_or_else(|| wrong(text))?).check(),
        }
    }
}

fn wrong(value: &str) -> SettingsError {
    let [min, max] = [MIN, MAX].map(write_duration);
    let allowed = format!("`{AUTO}`, `{NEVER}`, or a duration from {min} to {max}, such as `50us`");
    SettingsError::value(NAME, value, allowed)
}

impl fmt::Display for BusyPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Never => f.write_str(NEVER),
            Self::For(time) => f.write_str(&write_duration(*time)),
        }
    }
}

impl Field for BusyPoll {
    fn write(&self, sink: &mut Sink<'_>) {
        match self {
            Self::Auto => 0_u8.write(sink),
            Self::Never => 1_u8.write(sink),
            Self::For(time) => {
                2_u8.write(sink);
                time.write(sink);
            }
        }
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        match u8::read(unread)? {
            0 => Ok(Self::Auto),
            1 => Ok(Self::Never),
            2 => Duration::read(unread).map(Self::For),
            _ => Err(unread.out_of_range("busy_poll")),
        }
    }
}
