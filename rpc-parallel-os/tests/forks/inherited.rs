//! What a forked worker inherits: descriptors and signal actions.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use rpc_parallel_os::{Forked, FreshChild, Released, SignalActions, exit_immediately, fork};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::sibling::{Ended, pipe, reap, run_in_sibling, run_in_sibling_with};

crate::harness::tests! {
    released_descriptor_reads_nothing_and_keeps_its_number
    released_file_is_closed
    descriptors_without_close_on_exec_can_be_kept
    descriptors_of_process_with_runtime_are_not_released
    handlers_of_program_are_reset
    ignored_pipe_signal_stays_ignored
    blocked_signals_are_unblocked
    exit_runs_own_handlers_only
}

/// A file with contents.
fn file() -> File {
    File::open("/proc/self/comm").expect("open a file")
}

fn released_descriptor_reads_nothing_and_keeps_its_number() {
    let (mut kept, mut released) = (file(), file());
    let number = released.as_raw_fd();

    let ended = run_in_sibling(move |child| {
        child.release_descriptors(Released::All, &[kept.as_fd()]).expect("/proc is mounted");

        assert_ne!(kept.read(&mut [0; 9]).expect("it is open"), 0);
        let error = released.read(&mut [0; 9]).expect_err("it is released");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert_ne!(file().as_raw_fd(), number);
        drop(released);
        assert_eq!(file().as_raw_fd(), number);
    });

    ended.assert_success();
}

fn released_file_is_closed() {
    let (mut reader, writer) = pipe();
    let (mut released, mut released_writer) = pipe();
    let (mut until_checked, checked) = pipe();
    let pid = match fork(&SignalActions::record()).expect("fork a child") {
        Forked::Caller(pid) => pid,
        Forked::Child(child) => {
            drop(checked);
            let kept = [released_writer.as_fd(), until_checked.as_fd()];
            let result = child.release_descriptors(Released::CloseOnExec, &kept);
            let _ = released_writer.write_all(&[u8::from(result.is_ok())]);
            let _ = until_checked.read(&mut [0]);
            exit_immediately(0);
        }
    };
    let mut is_released = [0];
    released.read_exact(&mut is_released).expect("the child writes");
    assert_eq!(is_released, [1]);

    drop(writer);
    fcntl_setfl(&reader, OFlags::NONBLOCK).expect("it is open");
    let end = reader.read(&mut [0]).expect("the child has not closed the file");
    drop(checked);

    assert_eq!(end, 0);
    assert_eq!(reap(pid).exit_status(), Some(0));
}

fn descriptors_without_close_on_exec_can_be_kept() {
    let inherited = file();
    fcntl_setfd(&inherited, FdFlags::empty()).expect("it is open");
    let reads = |child: FreshChild, released| {
        child.release_descriptors(released, &[]).expect("/proc is mounted");
        (&inherited).read(&mut [0; 9]).is_ok()
    };

    run_in_sibling(|child| assert!(reads(child, Released::CloseOnExec))).assert_success();
    run_in_sibling(|child| assert!(!reads(child, Released::All))).assert_success();
}

fn descriptors_of_process_with_runtime_are_not_released() {
    let ended = run_in_sibling(|child| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let _runtime = runtime.expect("build a runtime");

        let error = child.release_descriptors(Released::All, &[]).expect_err("there is an epoll");

        assert!(error.to_string().contains("the process has an epoll ("), "{error}");
    });

    ended.assert_success();
}

extern "C" fn handler(_: libc::c_int) {}

fn raise(signal: libc::c_int, actions: &SignalActions) -> Ended {
    run_in_sibling_with(actions, |_| {
        // SAFETY: the signal ends the process or is ignored.
        unsafe { libc::raise(signal) };
    })
}

fn set_action(signal: libc::c_int, action: libc::sighandler_t) {
    // SAFETY: the action is one of the constants, or `handler`, which does nothing.
    unsafe { libc::signal(signal, action) };
}

fn handlers_of_program_are_reset() {
    let actions = SignalActions::record();
    set_action(libc::SIGUSR1, handler as *const () as libc::sighandler_t);
    set_action(libc::SIGTERM, libc::SIG_IGN);

    let [user, terminate] = [libc::SIGUSR1, libc::SIGTERM].map(|it| raise(it, &actions));

    assert_eq!(user.status.terminating_signal(), Some(libc::SIGUSR1));
    assert_eq!(terminate.status.terminating_signal(), Some(libc::SIGTERM));
    raise(libc::SIGUSR1, &SignalActions::record()).assert_success();
}

fn ignored_pipe_signal_stays_ignored() {
    let actions = SignalActions::record();
    set_action(libc::SIGPIPE, libc::SIG_DFL);

    let ended = run_in_sibling_with(&actions, |_| {
        let (reader, mut writer) = pipe();
        drop(reader);
        let error = writer.write(b"a").expect_err("nobody reads");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    });

    ended.assert_success();
}

fn blocked_signals_are_unblocked() {
    let mut signals = std::mem::MaybeUninit::zeroed();
    // SAFETY: there is room for a set.
    unsafe { libc::sigfillset(signals.as_mut_ptr()) };
    // SAFETY: the set was written.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut()) };

    let ended = raise(libc::SIGUSR1, &SignalActions::record());

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGUSR1));
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    assert!(status.contains("SigBlk:\tfffffffe7ff"), "the caller's stay blocked: {status}");
}

#[cfg(target_env = "gnu")]
fn exit_runs_own_handlers_only() {
    extern "C" fn inherited() {
        println!("inherited");
    }
    extern "C" fn own() {
        println!("own");
    }
    let register = |handler| {
        // SAFETY: the handler is valid as long as this process.
        assert_eq!(unsafe { libc::atexit(handler) }, 0);
    };
    register(inherited);

    let ended = run_in_sibling(move |child| {
        assert!(child.skip_inherited_exit_handlers());
        register(own);
        std::process::exit(3);
    });

    assert_eq!(ended.status.exit_status(), Some(3));
    assert_eq!(ended.output, "own\n");
}

#[cfg(not(target_env = "gnu"))]
fn exit_runs_own_handlers_only() {}
