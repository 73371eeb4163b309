//! The items of a map, in the process of a worker: batches in, results out.

mod message;
mod request;
mod attempt;
mod queue;
mod fold;
mod outgoing;
mod running;
mod run_state;
mod item_run;
mod lane_claims;
mod pace;
mod item_scope;
mod sync_run;
mod function;
mod compute;
mod session;

pub use self::attempt::attempt;
pub(crate) use self::compute::{Work, run_items};
pub(crate) use self::function::ItemFunction;
pub use self::function::{BegunItem, RunningItem};
pub(crate) use self::item_run::ItemRun;
pub use self::item_scope::ItemScope;
pub(crate) use self::message::{Batch, Order, Record, Report};
pub(crate) use self::request::MapRequest;
pub(crate) use self::session::{Computing, serve_map};
pub use self::sync_run::SyncRun;

/// Decodes bytes as each message of a map.
#[cfg(fuzzing)]
pub(crate) fn decode_everything(bytes: &[u8]) {
    let shared = bytes::Bytes::copy_from_slice(bytes);
    let _ = Order::decode(shared.clone());
    let _ = Report::decode(shared);
    let _ = crate::wire::read_message::<MapRequest>(bytes);
}
