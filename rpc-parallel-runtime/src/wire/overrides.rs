//! Settings that win over what a program says.

use super::field::{Field, MalformedMessage, Unread};
use super::setting::SettingsError;
use super::settings::Settings;
use super::sink::Sink;

/// Some fields of [`Settings`], which hold whatever the others are.
///
/// Kept as they were written: whether a field has an allowed value depends on no other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Overrides(String);

impl Overrides {
    /// Takes over what is written, if all of it is right.
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        Settings::default().set_all(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns settings with these fields instead of their own.
    pub(crate) fn over(&self, settings: Settings) -> Settings {
        settings.set_all(&self.0).expect("it was right on other settings")
    }
}

impl Field for Overrides {
    fn write(&self, sink: &mut Sink<'_>) {
        self.0.write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let text = String::read(unread)?;
        Self::parse(&text).map_err(|_| unread.out_of_range("settings of the environment"))
    }
}
