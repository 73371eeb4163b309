//! Tests that fork. Each runs on the main thread of a process of its own, without libtest, because
//! a process must have a single thread to be forked.

mod harness;
mod sibling;
mod relatives;
mod running;
mod refused;
mod inherited;
mod environment;
mod threads;
mod sealed;
mod fallback;
mod cost;

use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [
        relatives::TESTS,
        running::TESTS,
        refused::TESTS,
        inherited::TESTS,
        environment::TESTS,
        threads::TESTS,
        sealed::TESTS,
        fallback::TESTS,
        cost::TESTS,
    ];
    harness::run(&groups.concat())
}
