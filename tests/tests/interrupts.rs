//! Ctrl-C and hangups of a terminal: the master receives the signal, its workers end in order.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::Instant;

use rpc_parallel_tests::process_tree::ProcessTree;
use rpc_parallel_tests::program::ProgramOutput;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Makes `env` reset signals that this process ignores, as background jobs of a shell do.
const DEFAULT_SIGNALS: &str = "--default-signal=INT,HUP";

/// Waits until the master and its three workers run.
fn wait_until_ready(mut tree: ProcessTree) -> ProcessTree {
    while tree.line() != "ready" {}
    assert_eq!(tree.workers.len(), 3);
    tree
}

/// Checks that the `on_shutdown` of each worker has run once, and that nothing is left.
fn assert_ended_in_order(tree: ProcessTree, since: Instant) -> ProgramOutput {
    let mut expected: Vec<_> = tree.workers.iter().map(|it| format!("shut down {it}")).collect();
    expected.sort();

    let output = tree.ended(since);

    let mut lines = output.stdout.clone();
    lines.retain(|it| it.starts_with("shut down "));
    lines.sort();
    assert_eq!(lines, expected, "{output:?}");
    // No process failed or panicked.
    assert_eq!(output.stderr, "", "{output:?}");
    output
}

/// Starts the program in a process group of its own, as a shell starts a job.
fn start_in_process_group(mode: &str) -> ProcessTree {
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, env!("CARGO_BIN_EXE_interruptible"), mode]);
    wait_until_ready(ProcessTree::start(command.process_group(0), mode))
}

fn interrupt_process_group(tree: &ProcessTree) -> Instant {
    let group = i32::try_from(tree.master.pid()).ok().and_then(Pid::from_raw);
    let since = Instant::now();
    let group = group.expect("a process id is positive");
    kill_process_group(group, Signal::INT).expect("the group exists");
    since
}

#[test]
fn interrupted_group_with_handling_master_ends_in_order() {
    let tree = start_in_process_group("handling");

    let since = interrupt_process_group(&tree);

    let output = assert_ended_in_order(tree, since);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout[0], "interrupted", "the workers end after the master's handler");
}

#[test]
fn interrupt_kills_master_and_ends_workers_in_order() {
    let tree = start_in_process_group("default");

    let since = interrupt_process_group(&tree);

    let output = assert_ended_in_order(tree, since);
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()), "{output:?}");
}

/// The master side of a pseudoterminal.
struct Terminal {
    keyboard: File,
}

impl Terminal {
    /// Starts the program in the foreground of a new terminal.
    fn start(mode: &str) -> (Self, ProcessTree) {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let terminal: OwnedFd = terminal.expect("open a pseudoterminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("unlock the pseudoterminal");
        let name = ptsname(&terminal, Vec::new()).expect("get the name of the pseudoterminal");
        let name = name.to_str().expect("the name is a path in /dev").to_owned();

        // `setsid --ctty` makes its stdin the terminal of a new session.
        let shell = format!(r#"exec setsid --ctty env {DEFAULT_SIGNALS} "$0" "$1" <{name}"#);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &shell, env!("CARGO_BIN_EXE_interruptible"), mode]);
        let tree = wait_until_ready(ProcessTree::start(&mut command, mode));
        (Self { keyboard: terminal.into() }, tree)
    }

    fn press_ctrl_c(&mut self) -> Instant {
        let since = Instant::now();
        self.keyboard.write_all(b"\x03").expect("write to the terminal");
        since
    }
}

#[test]
fn ctrl_c_with_handling_master_ends_workers_in_order() {
    let (mut terminal, tree) = Terminal::start("handling");

    let since = terminal.press_ctrl_c();

    let output = assert_ended_in_order(tree, since);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout[0], "interrupted", "the workers end after the master's handler");
}

#[test]
fn ctrl_c_kills_master_and_ends_workers_in_order() {
    let (mut terminal, tree) = Terminal::start("default");

    let since = terminal.press_ctrl_c();

    let output = assert_ended_in_order(tree, since);
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()), "{output:?}");
}

#[test]
fn hangup_kills_master_and_ends_workers_in_order() {
    let (terminal, tree) = Terminal::start("default");

    let since = Instant::now();
    drop(terminal);

    let output = assert_ended_in_order(tree, since);
    assert_eq!(output.status.signal(), Some(Signal::HUP.as_raw()), "{output:?}");
}
