//! Settings in the environment, which override the settings of the program.

use super::field::{Field, MalformedMessage, Unread};
use super::setting::SettingsError;
use super::settings::Settings;
use super::sink::Sink;

/// Values for some fields of [`Settings`], which override the values that a program sets.
///
/// They are stored as the validated text. The allowed values of a field do not depend on other
/// fields, so the text is valid for all settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Overrides(String);

impl Overrides {
    /// Parses a list of fields with their values, in the text form of [`Settings`].
    ///
    /// # Errors
    ///
    /// A field is unknown, is given twice, or has a value that is not allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        Settings::default().set_all(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns settings in which these fields replace those of `settings`.
    pub(crate) fn over(&self, settings: Settings) -> Settings {
        settings.set_all(&self.0).expect("`parse` has validated the text")
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
