//! The totals of the main example are exact, also when its workers are killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use rpc_parallel_tests::build::example;
use rpc_parallel_tests::process::{
    TEST_TIMEOUT, ends_within, has_thread, kill, until, with_variable,
};
use rpc_parallel_tests::program::Program;

const FILES: usize = 60;
const LINES: usize = 5_000;

/// The text of each line of each file.
const LINE: &str = "alpha beta alpha, gamma: Alpha beta\n";

/// The environment variable that the example and its workers have.
const VARIABLE: &str = "RPC_PARALLEL_TEST_WORD_COUNT";

fn write_corpus(directory: &Path) {
    let text = LINE.repeat(LINES);
    for number in 1..FILES {
        fs::write(directory.join(format!("{number}.txt")), &text).expect("write a file");
    }
    fs::write(directory.join(OsStr::from_bytes(b"\xff.txt")), &text).expect("write a file");
    fs::write(directory.join("no-text"), [0xff; 10]).expect("write a file");
}

/// Starts the example on a corpus.
fn start(corpus: &Path) -> Program {
    let mut program = Command::new(example(Path::new(env!("CARGO_TARGET_TMPDIR")), "word_count"));
    Program::start(program.args(["--workers", "3"]).arg(corpus).env(VARIABLE, corpus))
}

/// Checks the totals and the report of the file that is left out. Returns the lines of stderr.
fn assert_exact(program: Program) -> Vec<String> {
    let output = program.end();
    assert!(output.status.success(), "{output:?}");
    let count = FILES * LINES;
    for (times, word) in [(3, "alpha"), (2, "beta"), (1, "gamma")] {
        let expected = format!("{}  {word}", times * count);
        assert!(output.stdout.iter().any(|it| it.trim() == expected), "{expected}: {output:#?}");
    }
    let bytes = count * LINE.len();
    let summary = format!("{} words, {bytes} bytes, {FILES} files, 1 left out, ", 6 * count);
    assert!(output.stdout.iter().any(|it| it.starts_with(&summary)), "{summary}: {output:#?}");
    let lines: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
    let names_file = |it: &String| it.contains("left out: ") && it.contains("/no-text: ");
    assert_eq!(lines.iter().filter(|it| names_file(it)).count(), 1, "{lines:#?}");
    lines
}

#[test]
fn totals_are_exact() {
    let corpus = tempfile::tempdir().expect("create a directory");
    write_corpus(corpus.path());

    let lines = assert_exact(start(corpus.path()));

    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[test]
fn totals_are_exact_although_workers_are_killed() {
    let corpus = tempfile::tempdir().expect("create a directory");
    write_corpus(corpus.path());
    let value = corpus.path().to_str().expect("the path is text");
    let program = start(corpus.path());

    let mut killed = Vec::new();
    while killed.len() < 2 {
        // A worker starts this thread when it receives a map. The kernel truncates the name.
        let counts = |pid: &u32| !killed.contains(pid) && has_thread(*pid, "rpc-parallel it");
        let worker = until(|| with_variable(VARIABLE, value).into_iter().find(counts));
        let worker = worker.expect("a worker counts");
        kill(worker);
        assert!(ends_within(worker, TEST_TIMEOUT));
        killed.push(worker);
    }
    let lines = assert_exact(program);

    for pid in killed {
        let reports_kill = |it: &&String| it.contains(&pid.to_string()) && it.contains("SIGKILL");
        assert_eq!(lines.iter().filter(reports_kill).count(), 1, "{pid}: {lines:#?}");
    }
}
