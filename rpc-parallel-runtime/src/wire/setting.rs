//! One setting: its allowed values, its text form, and the error for a wrong value.

use std::time::Duration;

use super::error_text::debug_as_display;
use super::quantity::{read_duration, read_size, write_duration, write_size};

/// The text form of a timeout that is switched off.
const NEVER: &str = "never";

/// A setting has a value that is not allowed, has an unknown name, or is given twice.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SettingsError(Wrong);

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum Wrong {
    #[error("invalid setting `{field}`: expected {allowed}, found `{value}`")]
    Value { field: &'static str, value: String, allowed: String },
    #[error("unknown setting `{field}`: expected one of {}", list(fields))]
    Unknown { field: String, fields: Vec<&'static str> },
    #[error("setting `{field}` is given twice")]
    Twice { field: String },
}

fn list(fields: &[&str]) -> String {
    let fields: Vec<_> = fields.iter().map(|it| format!("`{it}`")).collect();
    fields.join(", ")
}

debug_as_display!(SettingsError);

impl SettingsError {
    pub(super) fn unknown(field: &str, fields: Vec<&'static str>) -> Self {
        Self(Wrong::Unknown { field: field.to_owned(), fields })
    }

    pub(super) fn twice(field: &str) -> Self {
        Self(Wrong::Twice { field: field.to_owned() })
    }

    pub(super) fn value(field: &'static str, value: impl Into<String>, allowed: String) -> Self {
        Self(Wrong::Value { field, value: value.into(), allowed })
    }
}

/// A setting that is a size in bytes.
pub(super) struct Size {
    pub(super) field: &'static str,
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Size {
    pub(super) fn allows(&self, bytes: usize) -> bool {
        (self.min..=self.max).contains(&bytes)
    }

    pub(super) fn check(&self, bytes: usize) -> Result<usize, SettingsError> {
        if self.allows(bytes) { Ok(bytes) } else { Err(self.wrong(&bytes.to_string())) }
    }

    /// Reads a size, and checks it.
    pub(super) fn read(&self, text: &str) -> Result<usize, SettingsError> {
        self.check(read_size(text).ok_or_else(|| self.wrong(text))?)
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let [min, max] = [self.min, self.max].map(write_size);
        let allowed =
            format!("a size from {min} to {max}, such as `1500`, `64KiB`, `100MiB` or `1GiB`");
        SettingsError::value(self.field, value, allowed)
    }
}

/// A setting that is a count.
pub(super) struct Count {
    pub(super) field: &'static str,
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Count {
    pub(super) fn allows(&self, count: u32) -> bool {
        (self.min..=self.max).contains(&count)
    }

    pub(super) fn check(&self, count: u32) -> Result<u32, SettingsError> {
        if self.allows(count) { Ok(count) } else { Err(self.wrong(&count.to_string())) }
    }

    /// Reads a count, and checks it.
    pub(super) fn read(&self, text: &str) -> Result<u32, SettingsError> {
        self.check(text.parse().map_err(|_| self.wrong(text))?)
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let allowed = format!("a number from {} to {}", self.min, self.max);
        SettingsError::value(self.field, value, allowed)
    }
}

/// A setting that is a duration from 10 ms to 365 days.
pub(super) struct Time {
    pub(super) field: &'static str,
    /// The setting may be [`NEVER`].
    pub(super) or_never: bool,
}

impl Time {
    const MIN: Duration = Duration::from_millis(10);

    /// Deadlines of up to a year can be added to any `Instant`.
    const MAX: Duration = Duration::from_secs(365 * 24 * 3600);

    pub(super) fn check(&self, time: Duration) -> Result<Duration, SettingsError> {
        let allowed = (Self::MIN..=Self::MAX).contains(&time);
        if allowed { Ok(time) } else { Err(self.wrong(&write_duration(time))) }
    }

    /// Checks a duration; `None` stands for [`NEVER`].
    pub(super) fn check_or_never(
        &self,
        time: Option<Duration>,
    ) -> Result<Option<Duration>, SettingsError> {
        time.map(|it| self.check(it)).transpose()
    }

    /// Reads a duration, and checks it.
    pub(super) fn read(&self, text: &str) -> Result<Duration, SettingsError> {
        self.check(read_duration(text).ok_or_else(|| self.wrong(text))?)
    }

    pub(super) fn read_or_never(&self, text: &str) -> Result<Option<Duration>, SettingsError> {
        if text == NEVER { Ok(None) } else { self.read(text).map(Some) }
    }

    pub(super) fn write_or_never(time: Option<Duration>) -> String {
        time.map_or(NEVER.to_owned(), write_duration)
    }

    fn wrong(&self, value: &str) -> SettingsError {
        let [min, max] = [Self::MIN, Self::MAX].map(write_duration);
        let examples = if self.or_never {
            "`250ms`, `2s`, `1m` or `1h`, or `never`"
        } else {
            "`250ms`, `2s`, `1m` or `1h`"
        };
        let allowed = format!("a duration from {min} to {max}, such as {examples}");
        SettingsError::value(self.field, value, allowed)
    }
}

/// Reads a setting that is `true` or `false`.
pub(super) fn read_bool(field: &'static str, text: &str) -> Result<bool, SettingsError> {
    let wrong = |_| SettingsError::value(field, text, "`true` or `false`".to_owned());
    text.parse().map_err(wrong)
}
