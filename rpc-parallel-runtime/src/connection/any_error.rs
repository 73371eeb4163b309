//! The error type of functions that propagate errors of any type with `?`.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::new_causes;

/// Any error, as a value that can be sent: its text, and the texts of its causes.
///
/// A worker function that returns `Result<T, AnyError>` can use `?` on every error that converts to
/// `Box<dyn Error + Send + Sync>`: the error types of libraries, `anyhow::Error`,
/// [`BoxError`](crate::BoxError), `String` and `&str`. Its caller gets the error as
/// [`FunctionError::Function`](super::FunctionError::Function).
///
/// Like `anyhow::Error`, it does not implement [`std::error::Error`]: otherwise its conversion from
/// every error type, which `?` uses, would overlap with the conversion from itself.
///
/// ```
/// use rpc_parallel::AnyError;
///
/// fn parse(text: &str) -> Result<u32, AnyError> {
///     if text.is_empty() {
///         return Err("the text is empty".into());
///     }
///     Ok(text.parse()?)
/// }
///
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnyError {
    message: String,
    causes: Vec<String>,
}

impl AnyError {
    /// Makes an error from a text.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), causes: Vec::new() }
    }

    /// Copies the texts of an error and of its sources.
    pub(crate) fn of(error: &dyn Error) -> Self {
        Self { message: error.to_string(), causes: new_causes(error) }
    }

    /// Returns the texts of the causes, the nearest first, without those that are part of the
    /// error's own text.
    #[must_use]
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for AnyError {
    fn from(error: E) -> Self {
        Self::of(&*error.into())
    }
}

/// Writes the text of the error, followed by those of its causes.
impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|it| write!(f, ": {it}"))
    }
}

impl fmt::Debug for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
