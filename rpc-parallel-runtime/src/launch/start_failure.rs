//! Why a process did not become a worker.

use crate::wire::{fields, shorten, shorten_list};
use crate::worker::InitError;

/// The reason why a process did not become a worker, as the process reports it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum StartFailure {
    OtherBuild { worker: u64, master: u64 },
    CurrentDir { why: String },
    Redirect { stream: String, why: String },
    SetUp { tried: String, why: String },
    UnknownWorkerType { offers: Vec<String> },
    Listen { why: String },
    Init(InitError),
}

fields!(enum StartFailure {
    0 => OtherBuild { worker, master },
    1 => CurrentDir { why },
    2 => Redirect { stream, why },
    3 => SetUp { tried, why },
    4 => UnknownWorkerType { offers },
    5 => Listen { why },
    6 => Init(error),
});

impl StartFailure {
    /// Shortens texts of the user.
    pub(super) fn shortened(self) -> Self {
        match self {
            Self::OtherBuild { worker, master } => Self::OtherBuild { worker, master },
            Self::CurrentDir { why } => Self::CurrentDir { why: shorten(why) },
            Self::Redirect { stream, why } => Self::Redirect { stream, why: shorten(why) },
            Self::SetUp { tried, why } => Self::SetUp { tried: shorten(tried), why: shorten(why) },
            Self::UnknownWorkerType { offers } => {
                Self::UnknownWorkerType { offers: shorten_list(offers) }
            }
            Self::Listen { why } => Self::Listen { why: shorten(why) },
            Self::Init(InitError::Failed { why }) => {
                Self::Init(InitError::Failed { why: shorten(why) })
            }
            Self::Init(InitError::Panicked(panic)) => {
                Self::Init(InitError::Panicked(panic.shortened()))
            }
            Self::Init(InitError::Undecodable { why }) => {
                Self::Init(InitError::Undecodable { why: shorten(why) })
            }
        }
    }
}

impl From<InitError> for StartFailure {
    fn from(error: InitError) -> Self {
        Self::Init(error)
    }
}
