//! Processes that must not be forked.

use std::sync::mpsc;
use std::thread;

use rpc_parallel_os::{ForkError, SealedSlice, SignalActions, fork, fork_sibling};

use crate::sibling::{refusal, run_in_sibling};

crate::harness::tests! {
    process_with_thread_is_not_forked
    process_with_tokio_runtime_is_not_forked
    process_that_fills_shared_memory_is_not_forked
}

/// Asserts that neither kind of fork succeeds, and returns the text of the error.
fn refused(expected: fn(&ForkError) -> bool) -> String {
    let error = refusal(fork(&SignalActions::record()));
    assert!(expected(&error), "{error:?}");
    let sibling = refusal(fork_sibling());
    assert!(expected(&sibling), "{sibling:?}");
    error.to_string()
}

fn process_with_thread_is_not_forked() {
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = thread::spawn(move || stopped.recv().is_err());

    refused(|it| matches!(it, ForkError::Threads(_)));
    drop(stop);
    assert!(thread.join().expect("it does not panic"));
    let only = rpc_parallel_os::wait_until_single_threaded(std::time::Duration::from_secs(10));

    only.expect("the thread has ended");
    run_in_sibling(|_| {}).assert_success();
}

fn process_with_tokio_runtime_is_not_forked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("build a runtime");

    let error = runtime.block_on(async { refused(|it| matches!(it, ForkError::Queue(_))) });
    drop(runtime);

    assert!(error.starts_with("failed to fork: the process has an epoll (descriptor "), "{error}");
    run_in_sibling(|_| {}).assert_success();
}

fn process_that_fills_shared_memory_is_not_forked() {
    let builder = SealedSlice::<u8>::builder(1).expect("there is memory");

    refused(|it| matches!(it, ForkError::SharedMemory));
    let sealed = builder.seal().expect("nobody else maps it");

    run_in_sibling(|_| assert_eq!(*sealed, [0])).assert_success();
}
