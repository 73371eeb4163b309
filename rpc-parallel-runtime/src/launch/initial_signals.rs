//! The signal actions with which this program began, which its forked workers get.

use std::sync::OnceLock;

use rpc_parallel_os::SignalActions;

/// Returns the signal actions at the first call. It must come before user code installs handlers.
pub(crate) fn initial_signals() -> &'static SignalActions {
    static INITIAL: OnceLock<SignalActions> = OnceLock::new();
    INITIAL.get_or_init(SignalActions::record)
}
