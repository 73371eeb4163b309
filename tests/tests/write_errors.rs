//! Failing writes of real processes. `strace` injects the errors, because a process cannot do so
//! itself without unsafe code. Where `strace` does not work, the tests are skipped.

use std::process::Command;

use rpc_parallel_tests::program::{Program, ProgramOutput};

/// Runs the program and its workers with this fault in `sendto`. Returns `None` without `strace`.
fn run(mode: &str, fault: &str) -> Option<ProgramOutput> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    let failure = match &tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(failure) = failure {
        println!("skipped: `strace` does not work on this host: {failure}");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=sendto", "-e"]);
    command.arg(format!("inject=sendto:{fault}"));
    command.args([env!("CARGO_BIN_EXE_write_errors"), mode]);
    Some(Program::run(&mut command))
}

#[test]
fn calls_succeed_after_one_write_fails_with_enobufs() {
    let Some(output) = run("calls", "error=ENOBUFS:when=3") else { return };

    assert_eq!(output.stdout, ["100 answers"], "{output:?}");
}

#[test]
fn calls_succeed_while_writes_fail_with_transient_errors() {
    for error in ["ENOBUFS", "ENOMEM", "EINTR"] {
        let Some(output) = run("calls", &format!("error={error}:when=2+3")) else { return };

        assert_eq!(output.stdout, ["100 answers"], "{error}: {output:?}");
    }
}

#[test]
fn calls_fail_with_write_error_that_breaks_connection() {
    let Some(output) = run("calls", "error=ENOSPC:when=20+") else { return };

    let [text] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(text.contains("No space left on device (os error 28)"), "{output:?}");
}

#[test]
fn restart_replaces_connection_broken_by_write_error() {
    let Some(output) = run("restart", "error=ENOSPC:when=20..23") else { return };

    let [text, again] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(text.contains("No space left on device (os error 28)"), "{output:?}");
    assert_eq!(again, "again", "{output:?}");
}
