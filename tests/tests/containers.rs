//! Masters and workers in unusual environments: namespaces of their own, as containers have them, no
//! `/proc` or `/dev/null`, an unusable `TMPDIR`, and processes that others cannot inspect.
//!
//! `unshare` runs the program `contained` in new namespaces. Where it is not permitted, the tests
//! print that and succeed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rpc_parallel_tests::program::{Program, ProgramOutput};

const PROGRAM: &str = env!("CARGO_BIN_EXE_contained");

/// A user id that no other process has.
const UNUSED_UID: u32 = 54322;

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

/// Returns the dynamic loader that this executable uses.
fn loader() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mut files = maps.lines().filter_map(|it| it.split_whitespace().nth(5));
    let loader = files.find(|it| it.rsplit('/').next().is_some_and(|it| it.starts_with("ld-")));
    if loader.is_none() {
        println!("skipped: this executable uses no dynamic loader");
    }
    loader.map(PathBuf::from)
}

#[test]
fn empty_tmpdir_selects_tmp() {
    let output = Program::run(Command::new(PROGRAM).arg("handle").env("TMPDIR", ""));

    assert_eq!(output.stdout, ["handle: 42"], "{output:?}");
}

#[test]
fn unusable_tmpdir_is_named_with_reason() {
    for (directory, reason) in [("/there/is/none", "No such file"), (PROGRAM, "Not a directory")] {
        let output = Program::run(Command::new(PROGRAM).arg("handle").env("TMPDIR", directory));

        let error = format!(
            "failed to create a socket in `{directory}` (set TMPDIR to use another directory): \
             {reason}"
        );
        assert!(output.stdout[0].contains(&error), "{output:?}");
    }
}

#[test]
fn undumpable_master_starts_workers_and_reports_unreachable_handle() {
    // The kernel lets root inspect every process.
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can start a program as another user");
        return;
    }
    // The other user may not read the target directory.
    let directory = tempfile::tempdir_in("/tmp").expect("make a directory");
    let program = directory.path().join("contained");
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.is_ok_and(|it| it.success()), "copy the program");
    for path in [directory.path(), &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("set permissions");
    }

    let mut command = Command::new(program);
    command.args(["undumpable", "call", "launcher", "handle"]);
    command.current_dir("/").env("TMPDIR", "/tmp").uid(UNUSED_UID).gid(UNUSED_UID);
    let output = Program::run(&mut command);

    let [undumpable, called, launched, handle] = &output.stdout[..] else { panic!("{output:?}") };
    let expected = ["undumpable: done", "call: 42", "launcher: 42"];
    assert_eq!([undumpable, called, launched], expected, "{output:?}");
    assert!(handle.contains("Permission denied"), "{output:?}");
    assert!(handle.contains("because it is not dumpable"), "{output:?}");
}

#[test]
fn program_run_by_dynamic_loader_starts_workers() {
    let Some(loader) = loader() else { return };
    let directory = tempfile::tempdir().expect("make a directory");
    let program = directory.path().join("a program");
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.is_ok_and(|it| it.success()), "copy the program");
    let options = ["--library-path", "/there/is/none"];

    let mut command = Command::new(loader);
    let output = Program::run(command.args(options).arg(program).args(["call", "launcher"]));

    assert_eq!(output.stdout, ["call: 42", "launcher: 42"], "{output:?}");
}

#[test]
fn process_1_starts_workers_and_sends_handles() {
    let options = [PROCESSES, &["--mount-proc"]].concat();
    let Some(output) = run_script(&options, "exec \"$0\" pid call handle launcher snapshot") else {
        return;
    };

    let [pid, others @ ..] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(pid.starts_with("pid: 1 1 "), "{output:?}");
    assert_eq!(others, ["call: 42", "handle: 42", "launcher: 42", "snapshot: 42"], "{output:?}");
}

#[test]
fn workers_and_handles_work_with_proc_of_outer_pid_namespace() {
    let Some(output) = run_script(PROCESSES, "exec \"$0\" pid call handle launcher snapshot")
    else {
        return;
    };

    let [pid, others @ ..] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(pid.starts_with("pid: 1 1 "), "{output:?}");
    assert_eq!(others, ["call: 42", "handle: 42", "launcher: 42", "snapshot: 42"], "{output:?}");
}

#[test]
fn missing_proc_is_error_with_cause_and_cure() {
    let script = "mount -t tmpfs none /proc; exec \"$0\" call launcher snapshot";
    let Some(output) = run_script(MOUNTS, script) else { return };

    let [executed @ .., snapshot] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(snapshot.starts_with("snapshot: failed to "), "{output:?}");
    assert!(snapshot.contains("in /proc/self/fd: "), "{output:?}");
    assert_eq!(executed.len(), 2, "{output:?}");
    for line in executed {
        let cause = "this process is not in `/proc`; mount the `/proc` of its PID namespace";
        assert!(line.contains(cause), "{output:?}");
    }
    let cure = "or select the executable with `MasterBuilder::worker_program`";
    assert!(output.stdout[0].ends_with(cure), "{output:?}");
}

#[test]
fn worker_without_dev_null_has_empty_stdin() {
    let script = "mount -t tmpfs none /dev; exec \"$0\" stdin call handle snapshot";
    let Some(output) = run_script(MOUNTS, script) else { return };

    let expected = ["stdin: 0 bytes", "call: 42", "handle: 42", "snapshot: 42"];
    assert_eq!(output.stdout, expected, "{output:?}");
}

#[test]
fn ignored_sigchld_loses_exit_reasons_only() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", PROGRAM, "call", "launcher", "snapshot", "killed"]);

    let output = Program::run(&mut command);

    let [working @ .., killed] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(working, ["call: 42", "launcher: 42", "snapshot: 42"], "{output:?}");
    assert!(killed.starts_with("killed: "), "{output:?}");
    assert!(killed.contains("unknown"), "{output:?}");
}

#[test]
fn limit_of_64_descriptors_fails_starts_beyond_it_only() {
    let script = "ulimit -n 64; set -- /proc/self/fd/*; echo $#
        exec \"$0\" many many-launcher call handle launcher snapshot";
    let mut command = Command::new("/bin/sh");

    let output = Program::run(command.args(["-e", "-c", script, PROGRAM]));

    let [open, lines @ ..] = &output.stdout[..] else { panic!("{output:?}") };
    let [many @ .., _, _, _, _] = lines else { panic!("{output:?}") };
    let others = &lines[many.len()..];
    // The shell has three, and one for the directory. It has inherited the others.
    let inherited = open.parse::<usize>().expect("a number").saturating_sub(4);
    for many in many {
        let (_, many) = many.split_once(": ").expect("a mode and its result");
        let (count, error) = many.split_once(" workers, then ").expect("a number and an error");
        let count: usize = count.parse().expect("a number");
        // A worker needs three descriptors.
        assert!(3 * count + inherited > 3 * 10, "{output:?}");
        assert!(error.contains("Too many open files"), "{output:?}");
        assert!(error.contains("its limit is 64: raise it"), "{output:?}");
    }
    assert_eq!(others, ["call: 42", "handle: 42", "launcher: 42", "snapshot: 42"], "{output:?}");
}

#[test]
fn redirecting_to_missing_dev_null_is_error_that_names_it() {
    let script = "mount -t tmpfs none /dev; exec \"$0\" null null-stderr";
    let Some(output) = run_script(MOUNTS, script) else { return };

    let [stdout, stderr] = &output.stdout[..] else { panic!("{output:?}") };
    let error = "failed to open `/dev/null` as its stdout: No such file or directory";
    assert!(stdout.contains(error), "{output:?}");
    let error = "failed to redirect its stderr: failed to open `/dev/null`: No such file";
    assert!(stderr.contains(error), "{output:?}");
}

#[test]
fn program_named_by_master_starts_without_proc() {
    let script = "mount -t tmpfs none /proc; exec \"$0\" program handle";
    let Some(output) = run_script(MOUNTS, script) else { return };

    let [called, handle] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(called, "program: 42", "{output:?}");
    assert!(handle.ends_with("`unshare --mount-proc`)"), "{output:?}");
}
