//! The check that a future is polled in a tokio runtime.

use tokio::runtime::Handle;

/// Checks that this thread runs a tokio runtime. `requires` is the beginning of the message.
///
/// # Panics
///
/// There is no runtime. The text of tokio does not name what requires one, or how a program of this
/// crate gets one.
pub(crate) fn require_runtime(requires: &str) {
    assert!(
        Handle::try_current().is_ok(),
        "{requires} requires a tokio runtime; await it in an `async fn main` with \
         `#[rpc_parallel::entry]` or `#[tokio::main]`, in a `#[rpc_parallel::test]`, or within \
         `tokio::runtime::Runtime::block_on`",
    );
}
