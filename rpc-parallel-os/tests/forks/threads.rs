//! The threads of a process, and work on a thread that ends.

use std::cell::Cell;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc;
use std::thread;

use rpc_parallel_os::{
    JoinedThreadError, NotSingleThreaded, check_single_threaded, run_on_joined_thread,
};

use crate::sibling::run_in_sibling;

crate::harness::tests! {
    process_with_one_thread_passes
    threads_of_tokio_are_named
    process_has_one_thread_after_joined_thread
    thread_that_ends_soon_is_waited_for
    thread_that_is_left_behind_is_named
    thread_local_values_end_with_joined_thread
    hash_keys_of_siblings_differ
}

fn process_with_one_thread_passes() {
    check_single_threaded().expect("no thread was started");
}

fn threads_of_tokio_are_named() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let _runtime = runtime.expect("build a runtime");
    // The threads name themselves when they begin to run.
    let named = || {
        let error = check_single_threaded().expect_err("two threads run").to_string();
        error.matches("`tokio-rt-worker` (").count() == 2
            && error.starts_with("the process has 2 other threads: ")
    };

    while !named() {
        thread::yield_now();
    }
}

fn process_has_one_thread_after_joined_thread() {
    for round in 0..500 {
        let result = run_on_joined_thread("warm", || {
            let thread = thread::current();
            let other = thread::spawn(move || round);
            (thread.name().map(str::to_owned), other.join().ok())
        });

        let result = result.expect("all threads were joined");
        assert_eq!(result, (Some("warm".to_owned()), Some(round)));
        check_single_threaded().expect("all threads were joined");
    }
}

fn thread_that_ends_soon_is_waited_for() {
    let threads = || fs::read_dir("/proc/self/task").expect("/proc is mounted").count();

    let result = run_on_joined_thread("warm", || {
        // It outlives the thread `warm`, so that only the main thread is left beside it.
        thread::spawn(move || {
            while threads() > 2 {
                thread::yield_now();
            }
        });
    });

    result.expect("the thread ends");
    assert_eq!(threads(), 1);
}

fn thread_that_is_left_behind_is_named() {
    let (_stop, stopped) = mpsc::channel::<()>();

    let result = run_on_joined_thread("warm", || {
        let thread = thread::Builder::new().name("left behind".to_owned());
        thread.spawn(move || stopped.recv().is_err()).map(drop).expect("start a thread");
    });

    let Err(JoinedThreadError::Threads(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("`left behind` ("), "{error}");
    assert!(matches!(error, NotSingleThreaded::OtherThreads(it) if it.len() == 1));
}

fn thread_local_values_end_with_joined_thread() {
    thread_local!(static SEED: Cell<u32> = const { Cell::new(0) });

    let seed = run_on_joined_thread("warm", || SEED.replace(1)).expect("no thread is left");

    run_in_sibling(|_| assert_eq!(SEED.get(), seed)).assert_success();
}

fn hash_keys_of_siblings_differ() {
    let keys = || RandomState::new().hash_one(0);
    run_on_joined_thread("warm", || _ = keys()).expect("no thread is left");

    let [one, two] = [(); 2].map(|()| run_in_sibling(|_| println!("{}", keys())).output);

    assert_ne!(one, "");
    assert_ne!(one, two);
}
