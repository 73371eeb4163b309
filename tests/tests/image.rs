//! A worker runs the same executable as its master, also after the file was changed or deleted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rpc_parallel_tests::program::Program;
use tempfile::TempDir;

/// A running program whose executable is a copy.
struct Copied {
    directory: TempDir,
    file: PathBuf,
    program: Program,
}

impl Copied {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("create a directory");
        let file = directory.path().join("program");
        // A child of a concurrent test would inherit a descriptor that this process writes to, and
        // a file that is open for writing cannot be executed. So another process copies it.
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_worker_per_line")).arg(&file).status();
        assert!(copied.is_ok_and(|it| it.success()), "`cp` copies the program");
        let program = Program::start(&mut Command::new(&file));
        assert_eq!(program.line(), "ready");
        Self { directory, file, program }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn assert_starts_workers(mut self) {
        for number in ["1", "2"] {
            self.program.write_line(number);
            let double = format!("{}", 2 * number.parse::<u32>().expect("the text is a number"));
            assert_eq!(self.program.line(), double);
        }
        assert!(self.program.end().status.success());
    }
}

#[test]
fn workers_start_after_executable_was_deleted() {
    let copied = Copied::start();

    fs::remove_file(&copied.file).expect("delete the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_executable_was_renamed() {
    let copied = Copied::start();

    fs::rename(&copied.file, copied.beside("renamed")).expect("rename the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_executable_was_replaced() {
    let copied = Copied::start();

    let other = copied.beside("other");
    fs::copy(Path::new("/bin/false"), &other).expect("copy a program");
    fs::rename(other, &copied.file).expect("replace the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_directory_was_deleted() {
    let copied = Copied::start();

    fs::remove_dir_all(copied.directory.path()).expect("delete the directory");

    copied.assert_starts_workers();
}
