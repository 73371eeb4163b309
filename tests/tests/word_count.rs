//! The main example keeps its promise: its totals are exact, whatever happens to its workers.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_parallel_tests::build::example;
use rpc_parallel_tests::process::{PATIENCE, ends_within};
use rpc_parallel_tests::program::Program;
use rustix::process::{Pid, Signal, kill_process};

const FILES: usize = 60;
const LINES: usize = 5_000;

/// Each line of each file.
const LINE: &str = "alpha beta alpha, gamma: alpha beta\n";

fn write_corpus(directory: &Path) {
    let text = LINE.repeat(LINES);
    for number in 0..FILES {
        fs::write(directory.join(format!("{number}.txt")), &text).expect("write a file");
    }
    fs::write(directory.join("no-text"), [0xff; 10]).expect("write a file");
}

/// Starts the example on a corpus; what it says on stderr is among its lines.
fn start(corpus: &Path) -> Program {
    let program = example(Path::new(env!("CARGO_TARGET_TMPDIR")), "word_count");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"exec "$@" 2>&1"#, "sh"]).arg(program);
    Program::start(shell.args(["--verbose", "--workers", "3"]).arg(corpus))
}

/// Finds the process in a line that tells of the start of a worker.
fn started(line: &str) -> Option<u32> {
    let (_, rest) = line.strip_prefix("word_count: started ")?.split_once("pid ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Checks the numbers of words, and returns what else was said.
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
fn the_totals_are_exact() {
    let corpus = tempfile::tempdir().expect("make a directory");
    write_corpus(corpus.path());

    let ended = start(corpus.path()).end();

    assert!(ended.status.success(), "{ended:?}");
    assert_exact(ended.stdout);
}

#[test]
fn the_totals_are_exact_when_workers_are_killed_meanwhile() {
    let corpus = tempfile::tempdir().expect("make a directory");
    write_corpus(corpus.path());
    let program = start(corpus.path());

    // Each has got its first files in the moment in which it is told of.
    let (mut killed, mut told) = (Vec::new(), Vec::new());
    while killed.len() < 2 {
        told.push(program.line());
        if let Some(pid) = told.last().and_then(|it| started(it)) {
            kill_process(Pid::from_raw(pid as i32).expect("it is positive"), Signal::KILL)
                .expect("it still counts");
            assert!(ends_within(pid, PATIENCE));
            killed.push(pid);
        }
    }
    let ended = program.end();

    assert!(ended.status.success(), "{ended:?}");
    told.extend(assert_exact(ended.stdout));
    for pid in killed {
        let exit_reason =
            |it: &&String| it.contains(&format!("pid {pid} ")) && it.contains("SIGKILL");
        assert_eq!(told.iter().filter(exit_reason).count(), 1, "{pid}: {told:#?}");
    }
}
