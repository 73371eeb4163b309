//! Ctrl-C is for the master: it ends, or not, and its workers end with it, in order and once.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::Instant;

use rpc_parallel_tests::family::Family;
use rpc_parallel_tests::program::Ended;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Has `env` undo what may be ignored here, and would be there: in the background, for instance.
const BY_DEFAULT: &str = "--default-signal=INT,HUP";

/// Waits until the master and its workers are there.
fn begun(mut family: Family) -> Family {
    while family.line() != "ready" {}
    assert_eq!(family.workers.len(), 3);
    family
}

/// Checks that each worker has taken its leave, once, and that nothing is left.
fn assert_ended_in_order(family: Family, since: Instant) -> Ended {
    let mut expected: Vec<_> = family.workers.iter().map(|it| format!("left {it}")).collect();
    expected.sort();

    let ended = family.ended(since);

    let mut left = ended.stdout.clone();
    left.retain(|it| it.starts_with("left "));
    left.sort();
    assert_eq!(left, expected, "{ended:?}");
    // Nobody has died of anything, or says so.
    assert_eq!(ended.stderr, "", "{ended:?}");
    ended
}

/// Starts the program in a process group of its own, as a shell starts a job.
fn start_in_a_group(how: &str) -> Family {
    let mut command = Command::new("env");
    command.args([BY_DEFAULT, env!("CARGO_BIN_EXE_leaving"), how]);
    begun(Family::begin(command.process_group(0), how))
}

fn interrupt_the_group_of(family: &Family) -> Instant {
    let group = i32::try_from(family.master.pid()).ok().and_then(Pid::from_raw);
    let interrupted = Instant::now();
    kill_process_group(group.expect("a pid is positive"), Signal::INT).expect("it runs");
    interrupted
}

#[test]
fn an_interrupt_of_the_process_group_ends_a_master_that_handles_it_in_order() {
    let family = start_in_a_group("handling");

    let interrupted = interrupt_the_group_of(&family);

    let ended = assert_ended_in_order(family, interrupted);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout[0], "interrupted", "the workers end because the master does");
}

#[test]
fn an_interrupt_of_the_process_group_kills_the_master_and_ends_the_workers_in_order() {
    let family = start_in_a_group("dying");

    let interrupted = interrupt_the_group_of(&family);

    let ended = assert_ended_in_order(family, interrupted);
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()), "{ended:?}");
}

/// A terminal, as the one who sits at it sees it.
struct Terminal {
    keyboard: File,
}

impl Terminal {
    /// Starts the program as the foreground of a terminal of its own.
    fn start(how: &str) -> (Self, Family) {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let terminal: OwnedFd = terminal.expect("there are terminals");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("it is a path in /dev").to_owned();

        // `setsid --ctty` makes its stdin the terminal of a new session.
        let shell = format!(r#"exec setsid --ctty env {BY_DEFAULT} "$0" "$1" <{name}"#);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &shell, env!("CARGO_BIN_EXE_leaving"), how]);
        (Self { keyboard: terminal.into() }, begun(Family::begin(&mut command, how)))
    }

    fn press_ctrl_c(&mut self) -> Instant {
        let pressed = Instant::now();
        self.keyboard.write_all(b"\x03").expect("it is a terminal");
        pressed
    }
}

#[test]
fn ctrl_c_in_a_terminal_ends_a_master_that_handles_it_in_order() {
    let (mut terminal, family) = Terminal::start("handling");

    let pressed = terminal.press_ctrl_c();

    let ended = assert_ended_in_order(family, pressed);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout[0], "interrupted", "the workers end because the master does");
}

#[test]
fn ctrl_c_in_a_terminal_kills_the_master_and_ends_the_workers_in_order() {
    let (mut terminal, family) = Terminal::start("dying");

    let pressed = terminal.press_ctrl_c();

    let ended = assert_ended_in_order(family, pressed);
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()), "{ended:?}");
}

#[test]
fn a_terminal_that_hangs_up_kills_the_master_and_ends_the_workers_in_order() {
    let (terminal, family) = Terminal::start("dying");

    let closed = Instant::now();
    drop(terminal);

    let ended = assert_ended_in_order(family, closed);
    assert_eq!(ended.status.signal(), Some(Signal::HUP.as_raw()), "{ended:?}");
}
