//! Workers' logs: records of the `tracing` events of a process, for readers in any process.
//!
//! A [layer](mod@layer) creates records of events, a [backlog] keeps the latest records, and each
//! reader follows the backlog at its own pace. No code in here logs, because that would log the
//! delivery of logs.

mod record;
mod text;
mod layer;
mod backlog;
mod stream;
mod forward;
mod forwarded;

pub use self::forward::{Forwarding, forward};
pub(crate) use self::layer::install;
pub use self::layer::layer;
pub use self::record::{LogItem, LogRecord, LogSpan};
pub use self::stream::Logs;
pub(super) use self::stream::{count, logs_of};
