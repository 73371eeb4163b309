//! The ready-made error of functions that only want `?`.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The text of any error and of its causes, as a value that travels.
///
/// Every error turns into one by `?`; like `anyhow::Error` it is for that reason no
/// [`std::error::Error`] itself. The caller sees it as
/// [`FunctionError::Function`](super::FunctionError::Function).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnyError {
    message: String,
    causes: Vec<String>,
}

impl AnyError {
    /// Makes an error of a text.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), causes: Vec::new() }
    }

    /// Makes an error of a boxed one.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        Self::from(Borrowed(error))
    }

    /// Returns the texts of the causes, the nearest first.
    #[must_use]
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl<E: Error> From<E> for AnyError {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { message: error.to_string(), causes }
    }
}

/// An error that is not ours to keep.
#[derive(Debug)]
struct Borrowed<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Borrowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

impl Error for Borrowed<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|it| write!(f, ": {it}"))
    }
}
