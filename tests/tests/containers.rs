//! Masters and workers in namespaces of their own, as containers have them.
//!
//! `unshare` runs the program `contained` in new namespaces. Where it is not permitted, the tests
//! print that and succeed.

use std::process::Command;

use rpc_parallel_tests::program::{Program, ProgramOutput};

const PROGRAM: &str = env!("CARGO_BIN_EXE_contained");

/// The options of `unshare` for a mount namespace.
const MOUNTS: &[&str] = &["-Urm"];
/// The options of `unshare` for a PID namespace, in which the program is process 1.
const PROCESSES: &[&str] = &["-Urpf"];

/// Runs a shell script in new namespaces, in which `$0` is the program. Returns `None` if this
/// system does not permit the namespaces.
fn run_script(options: &[&str], script: &str) -> Option<ProgramOutput> {
    let tried = Command::new("unshare").args(options).arg("true").output();
    if !tried.is_ok_and(|it| it.status.success()) {
        println!("skipped: `unshare {}` is not permitted", options.join(" "));
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(options).args(["/bin/sh", "-e", "-c", script, PROGRAM]);
    Some(Program::run(&mut command))
}

#[test]
fn process_1_starts_workers_and_sends_handles() {
    let options = [PROCESSES, &["--mount-proc"]].concat();
    let Some(output) = run_script(&options, "exec \"$0\" pid call handle launcher") else { return };

    let [pid, others @ ..] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(pid.starts_with("pid: 1 1 "), "{output:?}");
    assert_eq!(others, ["call: 42", "handle: 42", "launcher: 42"], "{output:?}");
}

#[test]
fn workers_and_handles_work_with_proc_of_outer_pid_namespace() {
    let Some(output) = run_script(PROCESSES, "exec \"$0\" pid call handle launcher") else {
        return;
    };

    let [pid, others @ ..] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(pid.starts_with("pid: 1 1 "), "{output:?}");
    assert_eq!(others, ["call: 42", "handle: 42", "launcher: 42"], "{output:?}");
}

#[test]
fn missing_proc_is_error_with_cause_and_cure() {
    let script = "mount -t tmpfs none /proc; exec \"$0\" call launcher";
    let Some(output) = run_script(MOUNTS, script) else { return };

    assert_eq!(output.stdout.len(), 2, "{output:?}");
    for line in &output.stdout {
        let cause = "this process is not in `/proc`; mount the `/proc` of its PID namespace";
        assert!(line.contains(cause), "{output:?}");
    }
    let cure = "or select the executable with `MasterBuilder::worker_program`";
    assert!(output.stdout[0].ends_with(cure), "{output:?}");
}

#[test]
fn program_named_by_master_starts_without_proc() {
    let script = "mount -t tmpfs none /proc; exec \"$0\" program handle";
    let Some(output) = run_script(MOUNTS, script) else { return };

    let [called, handle] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(called, "program: 42", "{output:?}");
    assert!(handle.ends_with("`unshare --mount-proc`)"), "{output:?}");
}
