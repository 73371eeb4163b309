//! A worker runs the program that its master runs, whatever has become of the file meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rpc_parallel_tests::program::Program;
use tempfile::TempDir;

/// A program that runs from a file of its own.
struct Copied {
    directory: TempDir,
    file: PathBuf,
    program: Program,
}

impl Copied {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let file = directory.path().join("program");
        // Not by ourselves: a program that another test starts meanwhile would hold the file open
        // for writing, and nobody can run it then.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_waiting")).arg(&file).status();
        assert!(copied.is_ok_and(|it| it.success()), "copy the program");
        let program = Program::start(&mut Command::new(&file));
        assert_eq!(program.line(), "ready");
        Self { directory, file, program }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn assert_starts_workers(mut self) {
        for number in ["1", "2"] {
            self.program.tell(number);
            let double = format!("{}", 2 * number.parse::<u32>().expect("it is a number"));
            assert_eq!(self.program.line(), double);
        }
        assert!(self.program.end().status.success());
    }
}

#[test]
fn workers_start_after_the_file_was_deleted() {
    let copied = Copied::start();

    fs::remove_file(&copied.file).expect("delete the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_the_file_was_renamed() {
    let copied = Copied::start();

    fs::rename(&copied.file, copied.beside("renamed")).expect("rename the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_the_file_was_replaced_by_another_program() {
    let copied = Copied::start();

    let other = copied.beside("other");
    fs::copy(Path::new("/bin/false"), &other).expect("copy a program");
    fs::rename(other, &copied.file).expect("replace the program");

    copied.assert_starts_workers();
}

#[test]
fn workers_start_after_the_directory_was_deleted() {
    let copied = Copied::start();

    fs::remove_dir_all(copied.directory.path()).expect("delete the directory");

    copied.assert_starts_workers();
}
