//! Writes that fail in real processes: a tracer lets the system calls fail. It is `strace`, because
//! a process cannot do this to itself without unsafe code; where it does not work, tests are skipped.

use std::process::Command;

use rpc_parallel_tests::program::{Ended, Program};

/// Runs the program where its writes, and those of its workers, fail in this way; none where this
/// cannot be had.
fn run(what: &str, fault: &str) -> Option<Ended> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    let why = match &tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        println!("skipped: `strace`, which lets writes fail, does not work here: {why}");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=sendto", "-e"]);
    command.arg(format!("inject=sendto:{fault}"));
    command.args([env!("CARGO_BIN_EXE_write_errors"), what]);
    Some(Program::run(&mut command))
}

#[test]
fn calls_succeed_after_one_write_fails_for_lack_of_buffers() {
    let Some(ended) = run("calls", "error=ENOBUFS:when=3") else { return };

    assert_eq!(ended.stdout, ["100 answers"], "{ended:?}");
}

#[test]
fn calls_succeed_while_writes_fail_with_transient_errors() {
    for error in ["ENOBUFS", "ENOMEM", "EINTR"] {
        let Some(ended) = run("calls", &format!("error={error}:when=2+3")) else { return };

        assert_eq!(ended.stdout, ["100 answers"], "{error}: {ended:?}");
    }
}

#[test]
fn calls_fail_with_error_that_breaks_connection() {
    let Some(ended) = run("calls", "error=ENOSPC:when=20+") else { return };

    let [text] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert!(text.contains("No space left on device (os error 28)"), "{ended:?}");
}

#[test]
fn restart_replaces_connection_that_write_error_broke() {
    let Some(ended) = run("restart", "error=ENOSPC:when=20..23") else { return };

    let [text, again] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert!(text.contains("No space left on device (os error 28)"), "{ended:?}");
    assert_eq!(again, "again", "{ended:?}");
}
