//! The answer of a worker that has no result for a call, or does not accept a connection.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::fields;

/// The message and source location of a panic.
///
/// `Display` writes the location and the message, without the backtrace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// The panic message.
    pub message: String,
    /// The source location of the panic, as `file:line:column`, if it is known.
    pub location: Option<String>,
    /// The backtrace of the panic, if `RUST_BACKTRACE` enables backtraces in the worker.
    pub backtrace: Option<String>,
}

fields!(struct PanicReport { message, location, backtrace });

impl PanicReport {
    /// Shortens the texts to [`MAX_TEXT_LEN`] bytes each, and removes the backtrace.
    pub(crate) fn shortened(self) -> Self {
        let Self { message, location, .. } = self;
        Self { message: shorten(message), location: location.map(shorten), backtrace: None }
    }
}

impl std::error::Error for PanicReport {}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, location, .. } = self;
        match location {
            Some(location) => write!(f, "panicked at {location}: \"{message}\""),
            None => write!(f, "panicked: \"{message}\""),
        }
    }
}

/// The reason why a worker returns no result for a call, or does not accept a connection.
#[doc(hidden)]
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// The function, or the `init` of the connection, panicked.
    Panicked(PanicReport),
    /// The worker has no function with this id. `offers` lists the signatures of its functions.
    UnknownFunction { offers: Vec<String> },
    /// The arguments could not be decoded.
    Undecodable { why: String },
    /// The result could not be encoded.
    Unencodable { why: String },
    /// The result exceeds the largest message size. Both numbers are bytes.
    TooLarge { size: usize, max: usize },
    /// The caller cancelled the call, and the function was stopped.
    Cancelled,
    /// The deadline of the call passed before the function began.
    Expired,
    /// The process has no worker server with this id.
    NoSuchWorker,
    /// The builds of the worker and of the connecting process differ.
    OtherBuild { why: String },
    /// The types of a function differ between the two programs.
    OtherTypes { why: String },
    /// The `init` of the connection failed.
    Init { why: String },
    /// The peer violated the protocol.
    Violation { why: String },
}

fields!(enum Refusal {
    0 => Panicked(panic),
    1 => UnknownFunction { offers },
    2 => Undecodable { why },
    3 => Unencodable { why },
    4 => TooLarge { size, max },
    5 => Cancelled,
    6 => Expired,
    7 => NoSuchWorker,
    8 => OtherBuild { why },
    9 => OtherTypes { why },
    10 => Init { why },
    11 => Violation { why },
});

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => panic.fmt(f),
            Self::UnknownFunction { .. } => f.write_str("failed: the worker has no such function"),
            Self::Undecodable { why } => write!(f, "failed to decode its arguments: {why}"),
            Self::Unencodable { why } => write!(f, "failed to encode its result: {why}"),
            Self::TooLarge { size, max } => {
                write!(f, "failed: result of {size} bytes exceeds the limit of {max} bytes")
            }
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Expired => f.write_str("failed: its deadline passed before it began"),
            Self::NoSuchWorker => f.write_str("failed: the process has no such worker server"),
            Self::OtherBuild { why }
            | Self::OtherTypes { why }
            | Self::Init { why }
            | Self::Violation { why } => write!(f, "failed: {why}"),
        }
    }
}

/// The length in bytes to which texts are shortened that do not fit into a frame.
const MAX_TEXT_LEN: usize = 16 * 1024;

impl Refusal {
    /// Shortens the texts, which may be larger than a frame: users choose their length.
    pub(crate) fn shortened(&self) -> Self {
        match self.clone() {
            Self::Panicked(panic) => Self::Panicked(panic.shortened()),
            Self::UnknownFunction { offers } => {
                Self::UnknownFunction { offers: shorten_list(offers) }
            }
            Self::Undecodable { why } => Self::Undecodable { why: shorten(why) },
            Self::Unencodable { why } => Self::Unencodable { why: shorten(why) },
            Self::OtherBuild { why } => Self::OtherBuild { why: shorten(why) },
            Self::OtherTypes { why } => Self::OtherTypes { why: shorten(why) },
            Self::Init { why } => Self::Init { why: shorten(why) },
            Self::Violation { why } => Self::Violation { why: shorten(why) },
            short @ (Self::TooLarge { .. }
            | Self::Cancelled
            | Self::Expired
            | Self::NoSuchWorker) => short,
        }
    }
}

/// Truncates a text to [`MAX_TEXT_LEN`] bytes, and appends ` ..` if it was longer.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT_LEN {
        let end = (0..=MAX_TEXT_LEN).rev().find(|it| text.is_char_boundary(*it));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ..");
    }
    text
}

/// Removes texts from the end of a list until it fits into about [`MAX_TEXT_LEN`] bytes.
pub(crate) fn shorten_list(mut texts: Vec<String>) -> Vec<String> {
    let mut left = MAX_TEXT_LEN;
    texts.retain(|it| {
        left = left.saturating_sub(it.len() + 8);
        left > 0
    });
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_truncated_between_characters() {
        let why = "\u{e4}".repeat(MAX_TEXT_LEN);

        let shortened = Refusal::Init { why }.shortened();

        let Refusal::Init { why } = shortened else { panic!("shortening changed the variant") };
        assert_eq!(why, "\u{e4}".repeat(MAX_TEXT_LEN / 2) + " ..");
    }

    #[test]
    fn list_is_truncated_between_entries() {
        let offers = vec!["x".repeat(100); MAX_TEXT_LEN];

        let shortened = Refusal::UnknownFunction { offers }.shortened();

        let Refusal::UnknownFunction { offers } = shortened else {
            panic!("shortening changed the variant")
        };
        assert_eq!(offers.len(), MAX_TEXT_LEN / 108);
    }
}
