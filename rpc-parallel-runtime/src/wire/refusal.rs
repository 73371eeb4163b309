//! What a worker answers instead of a result.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::fields;

/// A panic: what it said, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// The message it panicked with.
    pub message: String,
    /// The place in the source, as `file:line:column`.
    pub location: Option<String>,
    /// How it came there, where `RUST_BACKTRACE` asks for it.
    pub backtrace: Option<String>,
}

fields!(struct PanicReport { message, location, backtrace });

impl PanicReport {
    /// Cuts what is said short.
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

/// Why a worker gave no result for a call, or no connection.
#[doc(hidden)]
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// The function, or the `init` of the connection, panicked.
    Panicked(PanicReport),
    /// The worker has no function with this id; it has these.
    UnknownFunction { offers: Vec<String> },
    /// The arguments could not be decoded.
    Undecodable { why: String },
    /// The result could not be encoded.
    Unencodable { why: String },
    /// The result is too large to travel.
    TooLarge { size: usize, max: usize },
    /// The caller wanted no answer any more, and the function was stopped.
    Cancelled,
    /// The time that the caller gave was over before the function could begin.
    Expired,
    /// There is no such worker server in the process.
    NoSuchWorker,
    /// The build of the worker is another one.
    OtherBuild { why: String },
    /// The two programs mean different things by one function.
    OtherTypes { why: String },
    /// The `init` of the connection failed.
    Init { why: String },
    /// The peer broke the rules of the conversation.
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
            Self::UnknownFunction { .. } => {
                f.write_str("is unknown: the worker has no such function")
            }
            Self::Undecodable { why } => write!(f, "got arguments that cannot be decoded: {why}"),
            other => write!(f, "failed: {other:?}"),
        }
    }
}

/// How much of a text is kept that is too long for a frame, in bytes.
const SHORT: usize = 16 * 1024;

impl Refusal {
    /// Cuts what is said short: users can say more than a frame holds.
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

/// Cuts a text short that is too long for where it is to be told.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > SHORT {
        let end = (0..=SHORT).rev().find(|it| text.is_char_boundary(*it));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ..");
    }
    text
}

/// Leaves the last ones of a list out that is too long.
pub(crate) fn shorten_list(mut texts: Vec<String>) -> Vec<String> {
    let mut left = SHORT;
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
        let why = "\u{e4}".repeat(SHORT);

        let shortened = Refusal::Init { why }.shortened();

        let Refusal::Init { why } = shortened else { panic!("it stays what it is") };
        assert_eq!(why, "\u{e4}".repeat(SHORT / 2) + " ..");
    }

    #[test]
    fn list_is_truncated_between_entries() {
        let offers = vec!["x".repeat(100); SHORT];

        let shortened = Refusal::UnknownFunction { offers }.shortened();

        let Refusal::UnknownFunction { offers } = shortened else { panic!("it stays what it is") };
        assert_eq!(offers.len(), SHORT / 108);
    }
}
