//! Settings that win over what a program says.

use serde::{Deserialize, Serialize};

use super::setting::SettingsError;
use super::settings::Settings;

/// Some fields of [`Settings`], which hold whatever the others are.
///
/// Kept as they were written: whether a field has an allowed value depends on no other.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
