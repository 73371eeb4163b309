//! The output of workers arrives at its redirect, in whole lines if lines are prefixed.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use rpc_parallel::error::{CallErrorKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends_within};
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Deserializer, Serialize};

#[rpc_parallel::worker]
trait Output {
    /// Writes to stdout and stderr, and returns the results.
    fn write(&self, text: &str) -> [Result<(), String>; 2];
    fn print(&self, text: &str);
    fn abort(&self, last_line: &str);
    fn pid(&self) -> u32;
    /// Locks stderr until the process ends.
    fn lock_stderr(&self);
    #[worker(one_way)]
    fn take(&self, value: Unreadable);
}

/// A value that can be encoded and not decoded.
#[derive(Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("this value cannot be decoded"))
    }
}

struct OutputWorker;

impl WorkerState for OutputWorker {
    type Init = Option<std::path::PathBuf>;

    async fn init(path: Self::Init) -> Result<Self, BoxError> {
        if let Some(path) = path {
            fs::write(path, "created")?;
        }
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Output for OutputWorker {
    fn write(&self, text: &str) -> [Result<(), String>; 2] {
        let written = |mut to: Box<dyn Write>| {
            let written = to.write_all(text.as_bytes()).and_then(|()| to.flush());
            written.map_err(|it| it.to_string())
        };
        [written(Box::new(std::io::stdout())), written(Box::new(std::io::stderr()))]
    }

    fn print(&self, text: &str) {
        println!("{text}");
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn lock_stderr(&self) {
        let (locked, is_locked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _lock = std::io::stderr().lock();
            locked.send(()).expect("the function waits for the message");
            loop {
                std::thread::park();
            }
        });
        is_locked.recv().expect("the thread locks stderr");
    }

    fn take(&self, _: Unreadable) {}

    fn abort(&self, last_line: &str) {
        eprint!("{last_line}");
        std::process::abort();
    }
}

fn run(mode: &str, end: &str) -> ProgramOutput {
    Program::run(Command::new(env!("CARGO_BIN_EXE_prefixed_output")).args([mode, end]))
}

#[test]
fn prefixed_lines_of_several_workers_stay_whole() {
    let output = run("lines", "return");

    assert!(output.status.success(), "{output:?}");
    let unnamed = output.stdout.iter().find_map(|it| it.strip_prefix("unnamed is "));
    let unnamed = format!("[pid {}] ", unnamed.expect("the master prints the process id"));
    let expected: Vec<_> = (0..1000).map(|it| format!("line {it} of 1000")).collect();
    let stderr: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
    for lines in [&output.stdout, &stderr] {
        let mut writers: HashMap<&str, Vec<&str>> = HashMap::new();
        let names = ["[first] ", "[second] ", &unnamed, ""];
        for line in lines {
            let name = names
                .iter()
                .find(|it| line.starts_with(**it))
                .expect("every line starts with \"\"");
            writers.entry(name).or_default().push(&line[name.len()..]);
        }
        for name in &names[..3] {
            assert!(writers[name] == expected, "{name}: {:?}", writers[name]);
        }
        let master = writers[""].iter().filter(|it| it.ends_with("of the master")).count();
        let others = usize::from(std::ptr::eq(lines, &output.stdout));
        assert_eq!((master, writers[""].len()), (3, 3 + others), "{:?}", writers[""]);
    }
}

#[rpc_parallel::test]
async fn worker_with_locked_stderr_reports_problems_and_ends_in_order() {
    let client = OutputWorker::spawn_ok(None).await;

    client.lock_stderr().await.expect("the call succeeds");
    // The worker reports on stderr that it cannot decode the argument.
    client.take(Unreadable).await.expect("the call is sent");

    let pid = client.pid().timeout(TEST_TIMEOUT).await.expect("the worker answers");
    assert_eq!(Some(pid), client.label().pid());
    soon(client.shutdown()).await.expect("the worker ends in order");
}

#[test]
fn master_holding_lock_of_its_output_awaits_workers_that_print() {
    for mode in ["stdout-locked", "stderr-locked"] {
        let output = run(mode, "return");

        assert!(output.status.success(), "{mode}: {output:?}");
        let line = format!("[first] {}", "x".repeat(1023));
        let stderr: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
        for lines in [&output.stdout, &stderr] {
            assert_eq!(lines.iter().filter(|it| **it == line).count(), 512, "{mode}");
        }
        assert!(output.stdout.iter().any(|it| it == "finished"), "{mode}");
        assert!(stderr.iter().any(|it| it == "[second] last line"), "{mode}");
        assert_eq!((output.stdout.len(), stderr.len()), (513, 513), "{mode}");
    }
}

#[test]
fn ending_master_without_entry_flushes_unfinished_line() {
    for (end, code) in [("return", 0), ("exit", 3)] {
        let output = run("unfinished", end);

        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(output.stdout, ["[first] no end"]);
        assert_eq!(output.stderr, "[first] no end\n");
    }
}

#[test]
fn last_line_of_dead_worker_appears_despite_held_stderr() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" \"$@\" 2>&1",
        env!("CARGO_BIN_EXE_prefixed_output"),
        "last",
        "return",
    ]);
    let mut master = Program::start(&mut command);

    let shown = [master.line(), master.line()];

    assert_eq!(shown, ["[first] first line", "[first] last line"]);
    master.write_line("received");
    let output = master.end();
    assert!(output.status.success(), "{output:?}");
    // Incomplete lines of other workers are held back meanwhile.
    assert_eq!(output.stdout, ["[second] not cut", "[second] not cut"]);
}

#[test]
fn line_without_newline_is_shown_in_bounded_pieces() {
    let output = run("long", "return");

    let (peak, lines): (Vec<_>, Vec<_>) =
        output.stdout.iter().partition(|it| it.starts_with("VmHWM:"));
    let pieces: Vec<_> = lines.iter().map(|it| it.strip_prefix("[first] ")).collect();
    assert_eq!(pieces.iter().flatten().map(|it| it.len()).sum::<usize>(), 32 * 1024 * 1024);
    assert_eq!(pieces.iter().flatten().map(|it| it.len()).max(), Some(64 * 1024));
    let peak = peak[0].split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok());
    let peak = peak.expect("the master prints its peak memory in KiB");
    assert!(peak < 20 * 1024, "{peak} KiB");
}

#[test]
fn master_with_unread_output_ends() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prefixed_output"));
    let command = command.args(["unread", "return"]).stdin(Stdio::null());
    let began = Instant::now();

    let mut master = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let ended = ends_within(master.id(), TEST_TIMEOUT);
    let status = master.kill().and_then(|()| master.wait()).expect("the program can be reaped");

    assert!(ended, "the master ends without a reader");
    assert!(status.success(), "{status} after {:?}", began.elapsed());
    let mut read = Vec::new();
    let mut stdout = master.stdout.take().expect("stdout is piped");
    stdout.read_to_end(&mut read).expect("the pipe is readable");
    assert!(read.len() >= 64 * 1024, "{} bytes were written", read.len());
}

#[rpc_parallel::test]
async fn stderr_tail_in_error_has_no_prefixes() {
    let spawner = OutputWorker::spawner().name("worker").stderr(Redirect::prefixed());
    let client = spawner.spawn_ok(None).await;

    let error = client.abort("first\nlast").await.expect_err("the worker aborts");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.stderr(), ["first", "last"]);
}

#[rpc_parallel::test]
async fn detached_worker_rejects_prefixed_output() {
    for (spawner, expected) in [
        (OutputWorker::spawner().stdout(Redirect::prefixed()), "stdout"),
        (OutputWorker::spawner().stderr(Redirect::prefixed()), "stderr"),
    ] {
        let error = spawner.start_detached(None).await.expect_err("the redirect is refused");

        let SpawnErrorKind::Redirect { stream, why } = error.kind() else { panic!("{error}") };
        assert_eq!(stream, expected);
        assert_eq!(
            why,
            "a detached worker may outlive its master, which therefore cannot prefix its output; use `Redirect::append` or `Redirect::inherit`"
        );
    }
}

#[rpc_parallel::test]
async fn full_disk_fails_only_writes_of_worker() {
    let full = Redirect::append("/dev/full");
    let spawner = OutputWorker::spawner().stdout(full.clone()).stderr(full);
    let client = spawner.spawn_ok(None).await;

    let written = client.write("a line\n").await.expect("the call succeeds");
    let printed = client.print("a line").await.expect_err("`println!` panics if it cannot write");

    let expected = Err("No space left on device (os error 28)".to_owned());
    assert_eq!(written, [expected.clone(), expected]);
    assert!(matches!(printed.kind(), CallErrorKind::Panicked(_)), "{printed}");
    assert!(client.write("").await.is_ok(), "the worker still answers");
}

#[rpc_parallel::test]
async fn unopenable_output_fails_before_init() {
    let directory = tempfile::tempdir().expect("create a directory");
    let trace = directory.path().join("trace");
    let missing = directory.path().join("no/such/directory/out");

    for spawner in [
        OutputWorker::spawner().stdout(Redirect::append(&missing)),
        OutputWorker::spawner().stderr(Redirect::truncate(&missing)),
    ] {
        let error =
            spawner.spawn(Some(trace.clone())).await.expect_err("the output cannot be opened");

        let SpawnErrorKind::Redirect { why, .. } = error.kind() else { panic!("{error}") };
        assert!(why.ends_with(": No such file or directory (os error 2)"), "{why}");
        assert!(!trace.exists(), "`init` did not run");
    }
}
