//! The end of a worker process.

use std::process;
use std::sync::OnceLock;
use std::thread;

use rpc_parallel_os::{exit_immediately, flush_output};

use super::thread::start_thread;

/// Which handlers the exit of a forked worker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ExitHandlers {
    /// Those that the worker itself has registered.
    Own,
    /// None.
    None,
}

/// Set in a worker that was forked from a snapshot.
static FORKED: OnceLock<ExitHandlers> = OnceLock::new();

/// Declares that this process was forked, and has inherited exit handlers and thread-local values.
pub(super) fn set_forked(handlers: ExitHandlers) {
    let _ = FORKED.set(handlers);
}

/// Ends this process, which is a worker, with an exit code.
///
/// A forked worker runs neither exit handlers nor destructors that it has inherited from its master:
/// they would end what belongs to the master.
pub(super) fn exit_process(code: i32) -> ! {
    let Some(handlers) = FORKED.get().copied() else { process::exit(code) };
    let end = move || match handlers {
        ExitHandlers::Own => process::exit(code),
        ExitHandlers::None => {
            flush_output();
            exit_immediately(code)
        }
    };
    // The exit runs the destructors of the thread-local values of its thread. Those of the main
    // thread may be the master's, so a new thread exits.
    if start_thread("rpc-parallel exit", Box::new(end)).is_err() {
        exit_immediately(code);
    }
    loop {
        thread::park();
    }
}
