//! Who is the parent of a worker, and reaps it.

use std::io::{Read, Write};
use std::process;

use rpc_parallel_os::{
    Forked, NewProcess, Parent, SignalActions, exit_immediately, fork, fork_sibling,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, waitid};
use rustix::thread::gettid;

use crate::sibling::{pipe, reap, run_in_child, run_in_sibling};

crate::harness::tests! {
    sibling_is_child_of_master
    sibling_knows_its_own_ids
    exit_code_of_sibling_reaches_master
    signal_that_ends_sibling_reaches_master
    sibling_of_sibling_is_child_of_master
    hundred_siblings_leave_no_zombie
    sibling_gets_death_signal_of_master
    handlers_of_parent_do_not_run_at_exit
}

fn sibling_is_child_of_master() {
    let master = getpid();

    let ended = run_in_sibling(|_| assert_eq!(getppid(), Some(master)));

    ended.assert_success();
}

fn sibling_knows_its_own_ids() {
    let ended = run_in_sibling(|_| println!("{} {}", process::id(), gettid().as_raw_pid()));

    let pid = ended.pid.as_raw_pid();
    assert_eq!(ended.output, format!("{pid} {pid}\n"));
}

fn exit_code_of_sibling_reaches_master() {
    let ended = run_in_sibling(|_| exit_immediately(7));

    assert_eq!(ended.status.exit_status(), Some(7));
}

fn signal_that_ends_sibling_reaches_master() {
    let ended = run_in_sibling(|_| {
        kill_process(getpid(), Signal::KILL).expect("it may kill itself");
    });

    assert_eq!(ended.status.terminating_signal(), Some(Signal::KILL.as_raw()));
}

fn sibling_of_sibling_is_child_of_master() {
    let ended = run_in_sibling(|_| match fork_sibling().expect("fork a sibling") {
        Forked::Child(_) => exit_immediately(9),
        Forked::Caller(NewProcess { pid, parent }) => {
            assert!(matches!(parent, Parent::ParentOfCaller), "{parent:?}");
            print!("{}", pid.as_raw_pid());
        }
    });

    ended.assert_success();
    let pid = Pid::from_raw(ended.output.parse().expect("it is a process id"));
    assert_eq!(reap(pid.expect("it is positive")).exit_status(), Some(9));
}

fn hundred_siblings_leave_no_zombie() {
    let actions = SignalActions::record();
    let (mut pids, mut pids_writer) = pipe();
    let Forked::Caller(snapshot) = fork(&actions).expect("fork a snapshot") else {
        for _ in 0..100 {
            match fork_sibling().expect("fork a sibling") {
                Forked::Child(_) => exit_immediately(3),
                Forked::Caller(NewProcess { pid, parent }) => {
                    assert!(matches!(parent, Parent::ParentOfCaller));
                    let _ = pids_writer.write_all(&pid.as_raw_pid().to_ne_bytes());
                }
            }
        }
        exit_immediately(0);
    };
    drop(pids_writer);

    let mut siblings = 0;
    let mut pid = [0; 4];
    while pids.read_exact(&mut pid).is_ok() {
        let pid = Pid::from_raw(i32::from_ne_bytes(pid));
        let status = reap(pid.expect("it is positive"));
        assert_eq!(status.exit_status(), Some(3));
        siblings += 1;
    }

    assert_eq!(siblings, 100);
    assert_eq!(reap(snapshot).exit_status(), Some(0));
    let none = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    assert_eq!(none.err(), Some(Errno::CHILD));
}

fn sibling_gets_death_signal_of_master() {
    let actions = SignalActions::record();
    let (mut lives, writer) = pipe();
    // The master is a child here, so that this process survives it.
    let ended = run_in_child(|_| {
        let (mut ready, mut ready_writer) = pipe();
        let Forked::Caller(_snapshot) = fork(&actions).expect("fork a snapshot") else {
            if let Forked::Child(_) = fork_sibling().expect("fork a sibling") {
                let signal = Some(Signal::KILL);
                rustix::process::set_parent_process_death_signal(signal).expect("it is supported");
                ready_writer.write_all(b"r").expect("the master reads");
                let (mut never, _writer) = pipe();
                let _ = never.read(&mut [0]);
            }
            exit_immediately(0);
        };
        ready.read_exact(&mut [0]).expect("the worker writes");
    });
    ended.assert_success();
    drop(writer);

    // The worker holds the last end of the pipe.
    let end = lives.read(&mut [0]).expect("read the end of a pipe");

    assert_eq!(end, 0);
}

fn handlers_of_parent_do_not_run_at_exit() {
    extern "C" fn handler() {
        println!("the handler runs in {}", process::id());
    }
    // SAFETY: the handler is a function that takes no arguments and does not unwind.
    let registered = unsafe { libc::atexit(handler) };
    assert_eq!(registered, 0);

    let ended = run_in_sibling(|_| {});

    ended.assert_success();
    assert_eq!(ended.output, "");
}
