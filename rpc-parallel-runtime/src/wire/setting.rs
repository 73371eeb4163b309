//! One setting: which values it may have, how it is written, and what is said of a wrong one.

use std::time::Duration;

use super::quantity::{read_duration, read_size, write_duration, write_size};

/// What is written for a time that never comes.
const NEVER: &str = "never";

/// A setting has a value that is not allowed, or is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(transparent)]
pub struct SettingsError(Wrong);

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum Wrong {
    #[error("`{field}` is `{value}`, and must be {allowed}")]
    Value { field: &'static str, value: String, allowed: String },
    #[error("`{field}` is no setting; there are {}", list(fields))]
    Unknown { field: String, fields: Vec<&'static str> },
    #[error("`{field}` is set twice")]
    Twice { field: String },
}

fn list(fields: &[&str]) -> String {
    let fields: Vec<_> = fields.iter().map(|it| format!("`{it}`")).collect();
    fields.join(", ")
}

impl SettingsError {
    pub(super) fn unknown(field: &str, fields: Vec<&'static str>) -> Self {
        Self(Wrong::Unknown { field: field.to_owned(), fields })
    }

    pub(super) fn twice(field: &str) -> Self {
        Self(Wrong::Twice { field: field.to_owned() })
    }

    fn value(field: &'static str, value: impl Into<String>, allowed: String) -> Self {
        Self(Wrong::Value { field, value: value.into(), allowed })
    }
}

/// A setting that is a size in bytes.
pub(super) struct Size {
    pub(super) field: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
}

impl Size {
    pub(super) fn check(&self, bytes: usize) -> Result<usize, SettingsError> {
        let allowed = (self.least..=self.most).contains(&bytes);
        if allowed { Ok(bytes) } else { Err(self.wrong(&bytes.to_string())) }
    }

    pub(super) fn read(&self, text: &str) -> Result<usize, SettingsError> {
        read_size(text).ok_or_else(|| self.wrong(text))
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let [least, most] = [self.least, self.most].map(write_size);
        let allowed =
            format!("a size from {least} to {most}, like `1500`, `64KiB`, `100MiB` or `1GiB`");
        SettingsError::value(self.field, value, allowed)
    }
}

/// A setting that is a count.
pub(super) struct Count {
    pub(super) field: &'static str,
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Count {
    pub(super) fn check(&self, count: u32) -> Result<u32, SettingsError> {
        let allowed = (self.least..=self.most).contains(&count);
        if allowed { Ok(count) } else { Err(self.wrong(&count.to_string())) }
    }

    pub(super) fn read(&self, text: &str) -> Result<u32, SettingsError> {
        text.parse().map_err(|_| self.wrong(text))
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let allowed = format!("a number from {} to {}", self.least, self.most);
        SettingsError::value(self.field, value, allowed)
    }
}

/// A setting that is a time, from ten milliseconds to a year.
pub(super) struct Time {
    pub(super) field: &'static str,
    /// Whether it may be [`NEVER`].
    pub(super) or_never: bool,
}

impl Time {
    const LEAST: Duration = Duration::from_millis(10);

    /// Beyond this clocks might not count.
    const MOST: Duration = Duration::from_secs(365 * 24 * 3600);

    pub(super) fn check(&self, time: Duration) -> Result<Duration, SettingsError> {
        let allowed = (Self::LEAST..=Self::MOST).contains(&time);
        if allowed { Ok(time) } else { Err(self.wrong(&write_duration(time))) }
    }

    pub(super) fn read(&self, text: &str) -> Result<Duration, SettingsError> {
        read_duration(text).ok_or_else(|| self.wrong(text))
    }

    pub(super) fn read_or_never(&self, text: &str) -> Result<Option<Duration>, SettingsError> {
        if text == NEVER { Ok(None) } else { self.read(text).map(Some) }
    }

    pub(super) fn write_or_never(time: Option<Duration>) -> String {
        time.map_or(NEVER.to_owned(), write_duration)
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let [least, most] = [Self::LEAST, Self::MOST].map(write_duration);
        let examples = if self.or_never {
            "`250ms`, `2s`, `1m` or `1h`, or `never`"
        } else {
            "`250ms`, `2s`, `1m` or `1h`"
        };
        let allowed = format!("a time from {least} to {most}, like {examples}");
        SettingsError::value(self.field, value, allowed)
    }
}

/// Reads a setting that is one of two.
pub(super) fn read_bool(field: &'static str, text: &str) -> Result<bool, SettingsError> {
    let wrong = |_| SettingsError::value(field, text, "`true` or `false`".to_owned());
    text.parse().map_err(wrong)
}
