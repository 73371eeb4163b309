//! The totals of the main example are exact, also when its workers are killed.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_parallel_tests::build::example;
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends_within, kill};
use rpc_parallel_tests::program::Program;

const FILES: usize = 60;
const LINES: usize = 5_000;

/// The text of each line of each file.
const LINE: &str = "alpha beta alpha, gamma: alpha beta\n";

fn write_corpus(directory: &Path) {
    let text = LINE.repeat(LINES);
    for number in 0..FILES {
        fs::write(directory.join(format!("{number}.txt")), &text).expect("write a file");
    }
    fs::write(directory.join("no-text"), [0xff; 10]).expect("write a file");
}

/// Starts the example on a corpus. The lines of its stderr are among those of its stdout.
fn start(corpus: &Path) -> Program {
    let program = example(Path::new(env!("CARGO_TARGET_TMPDIR")), "word_count");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"exec "$@" 2>&1"#, "sh"]).arg(program);
    Program::start(shell.args(["--verbose", "--workers", "3"]).arg(corpus))
}

/// Returns the process id in a line that reports the start of a worker.
fn started(line: &str) -> Option<u32> {
    let (_, rest) = line.strip_prefix("word_count: started ")?.split_once("pid ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Checks the totals, and returns all lines.
fn assert_exact(mut lines: Vec<String>) -> Vec<String> {
    lines.iter_mut().for_each(|it| *it = it.replace(',', ""));
    let count = FILES * LINES;
    for (times, word) in [(3, "alpha"), (2, "beta"), (1, "gamma")] {
        let expected = format!("{}  {word}", times * count);
        assert!(lines.iter().any(|it| it.trim() == expected), "{expected}: {lines:#?}");
    }
    let bytes = count * LINE.len();
    let summary = format!("{} words {bytes} bytes {FILES} files (1 left out) ", 6 * count);
    assert!(lines.iter().any(|it| it.starts_with(&summary)), "{summary}: {lines:#?}");
    assert!(lines.iter().any(|it| it.contains("no-text: it is not text")), "{lines:#?}");
    lines
}

#[test]
fn totals_are_exact() {
    let corpus = tempfile::tempdir().expect("create a directory");
    write_corpus(corpus.path());

    let output = start(corpus.path()).end();

    assert!(output.status.success(), "{output:?}");
    assert_exact(output.stdout);
}

#[test]
fn totals_are_exact_although_workers_are_killed() {
    let corpus = tempfile::tempdir().expect("create a directory");
    write_corpus(corpus.path());
    let program = start(corpus.path());

    // A worker has its first files when the line about its start is printed.
    let (mut killed, mut lines) = (Vec::new(), Vec::new());
    while killed.len() < 2 {
        lines.push(program.line());
        if let Some(pid) = lines.last().and_then(|it| started(it)) {
            kill(pid);
            assert!(ends_within(pid, TEST_TIMEOUT));
            killed.push(pid);
        }
    }
    let output = program.end();

    assert!(output.status.success(), "{output:?}");
    lines.extend(assert_exact(output.stdout));
    for pid in killed {
        let reports_kill =
            |it: &&String| it.contains(&format!("pid {pid} ")) && it.contains("SIGKILL");
        assert_eq!(lines.iter().filter(reports_kill).count(), 1, "{pid}: {lines:#?}");
    }
}
