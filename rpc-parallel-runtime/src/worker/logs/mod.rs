//! Workers' logs: what a process has logged, whoever in it did, for all who ask.
//!
//! A [layer] makes records of events, a [backlog] keeps the latest of them, and those who read
//! follow it, each at their own pace. Nothing here logs: it would read of itself.

mod record;
mod text;
mod layer;
mod backlog;
mod stream;
mod forward;

pub use self::forward::{Forwarding, forward};
pub(crate) use self::layer::install;
pub use self::layer::layer;
pub use self::record::{LogItem, LogRecord, LogSpan};
pub use self::stream::Logs;
pub(super) use self::stream::{count, logs_of};
