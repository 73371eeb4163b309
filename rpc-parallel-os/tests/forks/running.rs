//! What a forked worker can do: all that any process can.

use std::hint::black_box;
use std::io::Write;
use std::process;
use std::thread;
use std::time::Duration;

use libc::pthread_mutex_t;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::sibling::run_in_sibling;

crate::harness::tests! {
    sibling_runs_threads
    sibling_runs_tokio
    output_that_is_buffered_before_fork_is_written_once
    panic_in_sibling_is_printed
    abort_in_sibling_is_reported_as_signal
    raise_in_sibling_ends_it
    stack_overflow_in_sibling_is_reported
    stack_overflow_on_thread_of_sibling_is_reported
    error_checking_mutex_works_in_sibling
    robust_mutex_of_dead_sibling_is_released
}

fn sibling_runs_threads() {
    let ended = run_in_sibling(|_| {
        let threads = (0..4).map(|it| thread::spawn(move || vec![it; 1000].len()));
        let threads: Vec<_> = threads.collect();
        let sum: usize = threads.into_iter().map(|it| it.join().expect("no panic")).sum();
        assert_eq!(sum, 4000);
    });

    ended.assert_success();
}

fn sibling_runs_tokio() {
    let ended = run_in_sibling(|_| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("build a runtime").block_on(async {
            let (here, there) = tokio::net::UnixStream::pair().expect("make two sockets");
            let task = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                there.try_write(b"hello").expect("there is room");
            });
            here.readable().await.expect("the runtime runs");
            task.await.expect("it does not panic");
            assert_eq!(here.try_read(&mut [0; 9]).expect("it is readable"), 5);
        });
    });

    ended.assert_success();
}

fn output_that_is_buffered_before_fork_is_written_once() {
    let ended = run_in_sibling(|_| {
        print!("in Rust's buffer,");
        // SAFETY: the format has no arguments, and both are strings that end with a zero byte.
        unsafe { libc::printf(c" in C's buffer".as_ptr()) };
        let nested = run_in_sibling(|_| {});
        nested.assert_success();
        assert_eq!(nested.output, "");
    });

    ended.assert_success();
    assert_eq!(ended.output, "in Rust's buffer, in C's buffer");
}

fn panic_in_sibling_is_printed() {
    let ended = run_in_sibling(|_| panic!("no data"));

    assert_eq!(ended.status.exit_status(), Some(101));
    assert!(ended.output.contains("thread 'main'"), "{}", ended.output);
    assert!(ended.output.contains("no data"), "{}", ended.output);
}

fn abort_in_sibling_is_reported_as_signal() {
    let ended = run_in_sibling(|_| process::abort());

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGABRT));
}

fn raise_in_sibling_ends_it() {
    let ended = run_in_sibling(|_| {
        // SAFETY: the signal ends the process.
        unsafe { libc::raise(libc::SIGUSR1) };
    });

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGUSR1), "{}", ended.output);
}

#[expect(unconditional_recursion, reason = "the stack must overflow")]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[1]
}

fn stack_overflow_in_sibling_is_reported() {
    let ended = run_in_sibling(|_| _ = black_box(overflow(0)));

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGABRT));
    assert!(ended.output.contains("thread 'main'"), "{}", ended.output);
    assert!(ended.output.contains("has overflowed its stack"), "{}", ended.output);
}

fn stack_overflow_on_thread_of_sibling_is_reported() {
    let ended = run_in_sibling(|_| {
        let thread = thread::Builder::new().name("deep".to_owned());
        let thread = thread.spawn(|| black_box(overflow(0))).expect("start a thread");
        let _ = thread.join();
    });

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGABRT));
    assert!(ended.output.contains("thread 'deep'"), "{}", ended.output);
}

/// Creates a mutex in memory that forked processes share, and which is never freed.
fn shared_mutex(kind: i32) -> *mut pthread_mutex_t {
    let read_write = ProtFlags::READ | ProtFlags::WRITE;
    let size = size_of::<pthread_mutex_t>();
    // SAFETY: without an address, the kernel chooses one where nothing is mapped.
    let memory =
        unsafe { mmap_anonymous(std::ptr::null_mut(), size, read_write, MapFlags::SHARED) };
    let mutex = memory.expect("map a page").cast::<pthread_mutex_t>();
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: there is room for the attributes.
    unsafe { libc::pthread_mutexattr_init(attributes) };
    // SAFETY: the attributes were initialized.
    unsafe { libc::pthread_mutexattr_settype(attributes, kind) };
    // SAFETY: as above.
    unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    // SAFETY: as above.
    unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
    // SAFETY: there is room for a mutex at the address, and nobody uses it yet.
    unsafe { libc::pthread_mutex_init(mutex, attributes) };
    mutex
}

fn lock(mutex: *mut pthread_mutex_t) -> i32 {
    // SAFETY: `shared_mutex` has initialized it, and it is never destroyed.
    unsafe { libc::pthread_mutex_lock(mutex) }
}

/// Locks a mutex that nobody holds.
fn try_lock(mutex: *mut pthread_mutex_t) -> i32 {
    // SAFETY: as for `lock`.
    unsafe { libc::pthread_mutex_trylock(mutex) }
}

fn error_checking_mutex_works_in_sibling() {
    let mutex = shared_mutex(libc::PTHREAD_MUTEX_ERRORCHECK);

    let ended = run_in_sibling(|_| {
        assert_eq!(lock(mutex), 0);
        assert_eq!(lock(mutex), libc::EDEADLK);
        // SAFETY: this thread has locked it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    });

    ended.assert_success();
    assert_eq!(try_lock(mutex), 0);
}

fn robust_mutex_of_dead_sibling_is_released() {
    let mutex = shared_mutex(libc::PTHREAD_MUTEX_NORMAL);

    let ended = run_in_sibling(|_| {
        assert_eq!(lock(mutex), 0);
        let _ = std::io::stdout().write_all(b"locked");
    });

    ended.assert_success();
    assert_eq!(ended.output, "locked");
    assert_eq!(try_lock(mutex), libc::EOWNERDEAD);
}
