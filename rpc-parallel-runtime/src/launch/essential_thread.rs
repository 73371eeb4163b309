//! Threads without which no worker starts or ends.

use std::io;
use std::process::abort;
use std::thread::panicking;

use super::role::Role;
use super::thread::start_thread;
use crate::connection::diagnose;

/// Starts a thread that runs as long as this process, with the CPU affinity of its entry. If it panics,
/// this process aborts: otherwise everything that waits for the thread would wait for ever.
pub(super) fn start_essential_thread(
    name: &'static str,
    run: Box<dyn FnOnce() + Send>,
) -> io::Result<()> {
    start_thread(
        name,
        Box::new(move || {
            let _guard = AbortOnPanic(name);
            Role::restore_affinity();
            run();
        }),
    )
}

struct AbortOnPanic(&'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if panicking() {
            diagnose(format_args!(
                "the thread `{}` panicked, which is a bug of rpc-parallel; aborting, because no \
                 worker can be started or ended without it",
                self.0
            ));
            abort();
        }
    }
}
