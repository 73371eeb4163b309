//! Sandboxes that refuse what a sibling requires.

use std::io::{Read, Write};

use libc::{sock_filter, sock_fprog};
use rpc_parallel_os::{
    Forked, NewProcess, NoSibling, Parent, check_single_threaded, exit_immediately, fork_sibling,
};
use rustix::process::{getpid, getppid};

use crate::sibling::{pipe, reap};

crate::harness::tests! {
    refused_sibling_becomes_child
    threads_are_counted_without_unshare
}

/// Makes a system call fail with `EPERM` if its first argument has `bits`.
fn refuse(call: libc::c_long, bits: u32) {
    let instruction =
        |code: u32, k: u32, jt: u8, jf: u8| sock_filter { code: code as u16, jt, jf, k };
    // `struct seccomp_data`: the number of the call, and its first argument on little-endian.
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = libc::BPF_JMP | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        instruction(load, 0, 0, 0),
        instruction(jump | libc::BPF_JEQ, call as u32, 0, 3),
        instruction(load, 16, 0, 0),
        instruction(jump | libc::BPF_JSET, bits, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, refuse, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true).expect("it is supported");
    // SAFETY: the program is valid during the call. It makes only the given call fail.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn refused_sibling_becomes_child() {
    refuse(libc::SYS_clone, libc::CLONE_PARENT as u32);
    let caller = getpid();
    let (mut reader, mut writer) = pipe();

    let new = match fork_sibling().expect("a child can be made") {
        Forked::Child(_) => {
            let is_child = getppid() == Some(caller);
            let _ = writer.write_all(&[u8::from(is_child)]);
            exit_immediately(5);
        }
        Forked::Caller(new) => new,
    };

    let NewProcess { pid, parent: Parent::Caller(reason) } = new else { panic!("{new:?}") };
    assert!(matches!(reason, NoSibling::Refused(_)), "{reason:?}");
    assert_eq!(reap(pid).exit_status(), Some(5));
    let mut is_child = [0];
    reader.read_exact(&mut is_child).expect("the child writes");
    assert_eq!(is_child, [1]);
}

fn threads_are_counted_without_unshare() {
    refuse(libc::SYS_unshare, u32::MAX);

    check_single_threaded().expect("no thread was started");
    let error = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || stopped.recv().is_err());
        let error = check_single_threaded().expect_err("a thread runs");
        drop(stop);
        error
    });

    assert!(error.to_string().starts_with("the process has 1 other thread: `"), "{error}");
}
