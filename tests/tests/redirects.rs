//! What workers write arrives where it was to go, in whole lines where lines are shown.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use rpc_parallel::error::{CallErrorKind, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, ends_within};
use rpc_parallel_tests::program::{Ended, Program};
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Deserializer, Serialize};

#[rpc_parallel::worker]
trait Writes {
    /// Writes to both outputs, and says what came of it.
    fn write(&self, text: &str) -> [Result<(), String>; 2];
    fn print(&self, text: &str);
    fn die(&self, last_words: &str);
    fn pid(&self) -> u32;
    /// Locks stderr until the process ends.
    fn lock_stderr(&self);
    #[worker(one_way)]
    fn take(&self, value: Unreadable);
}

/// A value that can be sent and not be received.
#[derive(Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is unreadable"))
    }
}

struct Writer;

impl WorkerState for Writer {
    type Init = Option<std::path::PathBuf>;

    async fn init(path: Self::Init) -> Result<Self, BoxError> {
        if let Some(path) = path {
            fs::write(path, "was here")?;
        }
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Writes for Writer {
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
            locked.send(()).expect("the function waits for it");
            loop {
                std::thread::park();
            }
        });
        is_locked.recv().expect("the thread takes the lock");
    }

    fn take(&self, _: Unreadable) {}

    fn die(&self, last_words: &str) {
        eprint!("{last_words}");
        std::process::abort();
    }
}

fn shown(what: &str, how: &str) -> Ended {
    Program::run(Command::new(env!("CARGO_BIN_EXE_shown")).args([what, how]))
}

#[test]
fn lines_of_several_workers_are_shown_whole_with_their_names() {
    let ended = shown("lines", "return");

    assert!(ended.status.success(), "{ended:?}");
    let nobody = ended.stdout.iter().find_map(|it| it.strip_prefix("nobody is "));
    let nobody = format!("[pid {}] ", nobody.expect("the master tells who it is"));
    let said: Vec<_> = (0..1000).map(|it| format!("line {it} of 1000")).collect();
    let stderr: Vec<_> = ended.stderr.lines().map(str::to_owned).collect();
    for lines in [&ended.stdout, &stderr] {
        let mut speakers: HashMap<&str, Vec<&str>> = HashMap::new();
        let names = ["[ann] ", "[ben] ", &nobody, ""];
        for line in lines {
            let name = names.iter().find(|it| line.starts_with(**it)).expect("\"\" always fits");
            speakers.entry(name).or_default().push(&line[name.len()..]);
        }
        for name in &names[..3] {
            assert!(speakers[name] == said, "{name}: {:?}", speakers[name]);
        }
        let master = speakers[""].iter().filter(|it| it.ends_with("of the master")).count();
        let told = usize::from(std::ptr::eq(lines, &ended.stdout));
        assert_eq!((master, speakers[""].len()), (3, 3 + told), "{:?}", speakers[""]);
    }
}

#[rpc_parallel::test]
async fn worker_with_locked_stderr_reports_problems_and_ends_in_order() {
    let client = Writer::spawn(None).await.expect("start a worker");

    client.lock_stderr().await.expect("call it");
    // The worker writes to stderr that it cannot decode the argument.
    client.take(Unreadable).await.expect("it is sent");

    let pid = client.pid().timeout(PATIENCE).await.expect("the worker goes on");
    assert_eq!(Some(pid), client.label().pid());
    soon(client.shutdown()).await.expect("it ends in order");
}

#[test]
fn master_holding_lock_of_its_output_awaits_workers_that_print() {
    for what in ["stdout-locked", "stderr-locked"] {
        let ended = shown(what, "return");

        assert!(ended.status.success(), "{what}: {ended:?}");
        let line = format!("[ann] {}", "x".repeat(1023));
        let stderr: Vec<_> = ended.stderr.lines().map(str::to_owned).collect();
        for lines in [&ended.stdout, &stderr] {
            assert_eq!(lines.iter().filter(|it| **it == line).count(), 512, "{what}");
        }
        assert!(ended.stdout.iter().any(|it| it == "finished"), "{what}");
        assert!(stderr.iter().any(|it| it == "[ben] the last words"), "{what}");
        assert_eq!((ended.stdout.len(), stderr.len()), (513, 513), "{what}");
    }
}

#[test]
fn nothing_is_lost_when_a_master_without_entry_ends_and_the_last_line_is_completed() {
    for (how, code) in [("return", 0), ("exit", 3)] {
        let ended = shown("unfinished", how);

        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert_eq!(ended.stdout, ["[ann] no end"]);
        assert_eq!(ended.stderr, "[ann] no end\n");
    }
}

#[test]
fn the_last_words_of_a_worker_are_shown_while_its_stderr_is_still_held() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1", env!("CARGO_BIN_EXE_shown"), "last", "return"]);
    let mut master = Program::start(&mut command);

    let shown = [master.line(), master.line()];

    assert_eq!(shown, ["[ann] the first words", "[ann] the last words"]);
    master.tell("they are here");
    let ended = master.end();
    assert!(ended.status.success(), "{ended:?}");
    // Lines of others wait for their ends meanwhile.
    assert_eq!(ended.stdout, ["[ben] not cut", "[ben] not cut"]);
}

#[test]
fn a_line_without_an_end_is_shown_in_pieces_and_takes_no_memory() {
    let ended = shown("long", "return");

    let (peak, lines): (Vec<_>, Vec<_>) =
        ended.stdout.iter().partition(|it| it.starts_with("VmHWM:"));
    let pieces: Vec<_> = lines.iter().map(|it| it.strip_prefix("[ann] ")).collect();
    assert_eq!(pieces.iter().flatten().map(|it| it.len()).sum::<usize>(), 32 * 1024 * 1024);
    assert_eq!(pieces.iter().flatten().map(|it| it.len()).max(), Some(64 * 1024));
    let peak = peak[0].split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok());
    let peak = peak.expect("the master tells how much memory it has used, in KiB");
    assert!(peak < 20 * 1024, "{peak} KiB");
}

#[test]
fn a_master_whose_output_nobody_reads_ends_all_the_same() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shown"));
    let command = command.args(["unheard", "return"]).stdin(Stdio::null());
    let began = Instant::now();

    let mut master = command.stdout(Stdio::piped()).spawn().expect("start a program");
    let ended = ends_within(master.id(), PATIENCE);
    let status = master.kill().and_then(|()| master.wait()).expect("wait for it");

    assert!(ended, "it waits for a reader");
    assert!(status.success(), "{status} after {:?}", began.elapsed());
    let mut read = Vec::new();
    let mut stdout = master.stdout.take().expect("it was piped");
    stdout.read_to_end(&mut read).expect("nobody else holds its output");
    assert!(read.len() >= 64 * 1024, "{} bytes were written until nobody read", read.len());
}

#[rpc_parallel::test]
async fn the_last_lines_in_an_error_have_no_name_in_front() {
    let spawner = Writer::spawner().name("ann").stderr(Redirect::prefixed());
    let client = spawner.spawn(None).await.expect("start a worker");

    let error = client.die("first\nlast").await.expect_err("it dies");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.stderr(), ["first", "last"]);
}

#[rpc_parallel::test]
async fn a_worker_that_may_outlive_its_master_cannot_be_shown_by_it() {
    for (spawner, expected) in [
        (Writer::spawner().stdout(Redirect::prefixed()), "stdout"),
        (Writer::spawner().stderr(Redirect::prefixed()), "stderr"),
    ] {
        let error = spawner.start_detached(None).await.expect_err("it is refused");

        let SpawnErrorKind::Redirect { stream, why } = error.kind() else { panic!("{error}") };
        assert_eq!(stream, expected);
        assert_eq!(why, "a worker that may outlive its master cannot be shown by it");
    }
}

#[rpc_parallel::test]
async fn a_full_disk_fails_what_the_worker_writes_and_nothing_else() {
    let full = Redirect::append("/dev/full");
    let spawner = Writer::spawner().stdout(full.clone()).stderr(full);
    let client = spawner.spawn(None).await.expect("start a worker");

    let written = client.write("a line\n").await.expect("call it");
    let printed = client.print("a line").await.expect_err("`println!` panics where it cannot");

    let expected = Err("No space left on device (os error 28)".to_owned());
    assert_eq!(written, [expected.clone(), expected]);
    assert!(matches!(printed.kind(), CallErrorKind::Panicked(_)), "{printed}");
    assert!(client.write("").await.is_ok(), "it works on");
}

#[rpc_parallel::test]
async fn an_output_that_cannot_be_opened_is_an_error_before_anything_runs() {
    let directory = tempfile::tempdir().expect("make a directory");
    let trace = directory.path().join("trace");
    let lost = directory.path().join("no/such/directory/out");

    for spawner in [
        Writer::spawner().stdout(Redirect::append(&lost)),
        Writer::spawner().stderr(Redirect::truncate(&lost)),
    ] {
        let error = spawner.spawn(Some(trace.clone())).await.expect_err("it cannot be opened");

        let SpawnErrorKind::Redirect { why, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(why, "No such file or directory (os error 2)");
        assert!(!trace.exists(), "its `init` has not begun");
    }
}
