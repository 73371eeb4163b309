//! Workers start as they are asked to, or say why not; and nothing of them is left behind.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel::{Settings, SpawnError, Spawner};
use rpc_parallel_tests::process::{ends, ends_within, is_gone};
use rpc_parallel_tests::program::{Ended, Program};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};

/// What a process knows of itself.
#[rpc_parallel::worker]
trait Reports {
    fn pid(&self) -> u32;
    fn argument(&self) -> String;
    fn variable(&self, name: OsString) -> Option<OsString>;
    fn current_dir(&self) -> Result<PathBuf, AnyError>;
    /// Returns where a file of the process's own directory in /proc leads to.
    fn link(&self, name: &str) -> Result<PathBuf, AnyError>;
    fn links(&self, name: &str) -> Result<Vec<PathBuf>, AnyError>;
    fn file(&self, name: &str) -> Result<Vec<u8>, AnyError>;
    fn say(&self, out: &str, err: &str);
    fn compute(&self);
    async fn length_of_argument(&self) -> usize;
}

struct Reporter(String);

/// How the `init` of a worker goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Begin {
    Well(String),
    Fails,
    FailsAtLength,
    PanicPolicy,
    TakesAWhile,
    WaitsForEver,
    BlocksForEver,
}

impl WorkerState for Reporter {
    type Init = Begin;

    async fn init(begin: Begin) -> Result<Self, BoxError> {
        let pid = std::process::id();
        match begin {
            Begin::Well(argument) => return Ok(Self(argument)),
            Begin::Fails => return Err(format!("process {pid} fails").into()),
            Begin::FailsAtLength => {
                let more = "x".repeat(2 * 1024 * 1024);
                return Err(format!("process {pid} fails: {more}").into());
            }
            Begin::PanicPolicy => panic!("process {pid} panics"),
            _ => println!("{pid}"),
        }
        match begin {
            Begin::TakesAWhile => sleep(Duration::from_millis(1500)).await,
            Begin::WaitsForEver => std::future::pending().await,
            _ => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
        }
        Ok(Self(String::new()))
    }
}

#[rpc_parallel::worker]
impl Reports for Reporter {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn argument(&self) -> String {
        self.0.clone()
    }

    fn variable(&self, name: OsString) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn current_dir(&self) -> Result<PathBuf, AnyError> {
        Ok(std::env::current_dir()?)
    }

    fn link(&self, name: &str) -> Result<PathBuf, AnyError> {
        Ok(fs::read_link(Path::new("/proc/self").join(name))?)
    }

    fn links(&self, name: &str) -> Result<Vec<PathBuf>, AnyError> {
        let entries = fs::read_dir(Path::new("/proc/self").join(name))?;
        // One of them is what lists them, and is gone again.
        Ok(entries.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).collect())
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, AnyError> {
        Ok(fs::read(Path::new("/proc/self").join(name))?)
    }

    fn say(&self, out: &str, err: &str) {
        println!("{out}");
        eprintln!("{err}");
    }

    fn compute(&self) {
        loop {
            std::hint::spin_loop();
        }
    }

    async fn length_of_argument(&self) -> usize {
        self.0.len()
    }
}

fn well() -> Begin {
    Begin::Well(String::new())
}

fn reporter() -> Spawner<Reporter> {
    Reporter::spawner()
}

/// Finds the process in a text that names it.
fn pid_in(text: &str) -> u32 {
    let word = text.split_whitespace().skip_while(|it| *it != "process").nth(1);
    word.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{text:?} names a process"))
}

async fn pid_from(pipe: Receiver) -> u32 {
    let line = BufReader::new(pipe).lines().next_line().await;
    let line = line.expect("the pipe works").expect("there is a line");
    line.parse().expect("it is a process id")
}

fn kind(result: Result<ReportsClient, SpawnError>) -> SpawnErrorKind {
    let error = result.expect_err("it does not start");
    let text = error.to_string();
    assert!(text.starts_with("start worker spawning::Reporter: "), "{text}");
    into_kind(error.kind())
}

/// What these tests look at; the rest of the kinds cannot be copied.
fn into_kind(kind: &SpawnErrorKind) -> SpawnErrorKind {
    use SpawnErrorKind::*;
    match kind {
        InitArgument { why } => InitArgument { why: why.clone() },
        CurrentDir { path, why } => CurrentDir { path: path.clone(), why: why.clone() },
        Redirect { stream, why } => Redirect { stream: stream.clone(), why: why.clone() },
        TimedOut { within } => TimedOut { within: *within },
        Init { why } => Init { why: why.clone() },
        InitPanicked(panic) => InitPanicked(panic.clone()),
        other => panic!("{other}"),
    }
}

#[rpc_parallel::test]
async fn an_init_that_fails_says_why_and_leaves_no_process() {
    let kind = kind(Reporter::spawn(Begin::Fails).await);

    let SpawnErrorKind::Init { why } = kind else { panic!("{kind}") };
    assert!(is_gone(pid_in(&why)), "{why}");
}

#[rpc_parallel::test]
async fn an_init_that_says_too_much_when_it_fails_is_cut_short() {
    let kind = kind(Reporter::spawn(Begin::FailsAtLength).await);

    let SpawnErrorKind::Init { why } = kind else { panic!("{kind}") };
    let said = why.strip_prefix("process ").and_then(|it| it.strip_suffix(" .."));
    let len = said.map(str::len);
    assert!(len.is_some_and(|it| (10_000..1_000_000).contains(&it)), "{len:?}");
    assert!(is_gone(pid_in(&why)));
}

#[rpc_parallel::test]
async fn an_init_that_panics_says_where_and_leaves_no_process() {
    let kind = kind(Reporter::spawn(Begin::PanicPolicy).await);

    let SpawnErrorKind::InitPanicked(panic) = kind else { panic!("{kind}") };
    assert!(is_gone(pid_in(&panic.message)), "{panic}");
    assert!(panic.location.is_some_and(|it| it.contains("spawning.rs:")));
}

#[rpc_parallel::test]
async fn a_worker_that_is_started_fails_like_one_that_is_spawned() {
    let error = reporter().start(Begin::Fails).await.expect_err("its `init` fails");

    let SpawnErrorKind::Init { why } = error.kind() else { panic!("{error}") };
    assert!(is_gone(pid_in(why)), "{why}");
}

async fn assert_times_out(begin: Begin) {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let limit = Duration::from_millis(300);

    let began = Instant::now();
    let kind = kind(reporter().stdout(stdout).spawn_timeout(limit).spawn(begin).await);
    let took = began.elapsed();

    assert!(matches!(kind, SpawnErrorKind::TimedOut { within } if within == limit), "{kind}");
    assert!(took < limit + Duration::from_secs(5), "{took:?}");
    assert!(is_gone(pid_from(pipe).await), "nothing is left of it");
}

#[rpc_parallel::test]
async fn an_init_that_never_returns_is_ended_by_the_spawn_timeout() {
    assert_times_out(Begin::WaitsForEver).await;
}

#[rpc_parallel::test]
async fn an_init_that_blocks_its_thread_is_ended_by_the_spawn_timeout() {
    assert_times_out(Begin::BlocksForEver).await;
}

#[rpc_parallel::test]
async fn the_connect_timeout_does_not_count_the_init() {
    let limited = reporter().connect_timeout(Duration::from_secs(1)).stdout(Redirect::null());

    let client = limited.spawn(Begin::TakesAWhile).await.expect("its process starts quickly");

    assert_eq!(client.argument().await, Ok(String::new()));
}

#[rpc_parallel::test]
async fn a_directory_that_does_not_exist_is_named() {
    let lost = reporter().current_dir("/there/is/no/such/directory");

    let kind = kind(lost.spawn(well()).await);

    let SpawnErrorKind::CurrentDir { path, why } = kind else { panic!("{kind}") };
    assert_eq!(path, Path::new("/there/is/no/such/directory"));
    assert!(why.contains("No such file or directory"), "{why}");
}

#[rpc_parallel::test]
async fn an_output_that_cannot_be_opened_is_named() {
    for (stream, lost) in [
        ("stdout", reporter().stdout(Redirect::append("/no/such/directory/out"))),
        ("stderr", reporter().stderr(Redirect::truncate("/no/such/directory/err"))),
    ] {
        let kind = kind(lost.spawn(well()).await);

        let SpawnErrorKind::Redirect { stream: named, why } = kind else { panic!("{kind}") };
        assert_eq!(named, stream);
        assert!(why.contains("No such file or directory"), "{why}");
    }
}

#[rpc_parallel::test]
async fn an_argument_of_init_may_be_large() {
    // Many times what the socket to a process that does not read yet can hold.
    let large = "x".repeat(20_000_000);

    let client = Reporter::spawn(Begin::Well(large)).await.expect("start a worker");

    assert_eq!(client.length_of_argument().await, Ok(20_000_000));
}

#[rpc_parallel::test]
async fn an_argument_of_init_beyond_the_settings_is_refused_with_both_numbers() {
    let settings = Settings::default().with_max_message_size(2000).expect("it is not too little");

    let kind = kind(reporter().settings(settings).spawn(Begin::Well("x".repeat(5000))).await);

    let SpawnErrorKind::InitArgument { why } = kind else { panic!("{kind}") };
    assert!(why.contains("message of 5009 bytes exceeds the limit of 2000 bytes"), "{why}");
}

#[rpc_parallel::test]
async fn variables_of_the_environment_carry_any_bytes() {
    let values = [
        OsString::new(),
        OsString::from(r#"potentially "problematic" \"test\" string ()!"#),
        OsString::from("two\nlines\tand = signs=$HOME `x` ; & | < > * ?"),
        OsString::from_vec((1..=255).collect()),
    ];

    for value in values {
        let spawner = reporter().env("CARRIED", "overwritten").env("CARRIED", &value);
        let client = spawner.spawn(well()).await.expect("start a worker");

        assert_eq!(client.variable("CARRIED".into()).await, Ok(Some(value)));
        // The others are there as well.
        assert_eq!(client.variable("PATH".into()).await, Ok(std::env::var_os("PATH")));
    }
}

#[rpc_parallel::test]
async fn a_worker_begins_in_the_directory_that_was_chosen() {
    let directory = tempfile::tempdir().expect("make a directory");
    let directory = directory.path().canonicalize().expect("it exists");

    let elsewhere = reporter().current_dir(&directory).spawn(well()).await;
    let here = Reporter::spawn(well()).await.expect("start a worker");

    let elsewhere = elsewhere.expect("start a worker");
    assert_eq!(elsewhere.current_dir().await, Ok(directory));
    assert_eq!(here.current_dir().await.ok(), std::env::current_dir().ok());
}

#[rpc_parallel::test]
async fn outputs_are_appended_to_files_or_replace_them() {
    let directory = tempfile::tempdir().expect("make a directory");
    let [out, err] = ["out", "err"].map(|it| directory.path().join(it));
    fs::write(&out, "before\n").expect("write a file");
    fs::write(&err, "before\n").expect("write a file");
    let spawner = reporter()
        .current_dir(directory.path())
        .stdout(Redirect::append("out"))
        .stderr(Redirect::truncate(&err));

    let client = spawner.spawn(well()).await.expect("start a worker");
    client.say("to stdout", "to stderr").await.expect("call it");

    let read = [out, err].map(|it| fs::read_to_string(it).expect("read a file"));
    assert_eq!(read, ["before\nto stdout\n", "to stderr\n"]);
}

#[rpc_parallel::test]
async fn outputs_go_nowhere_where_nobody_wants_them() {
    let spawner = reporter().stdout(Redirect::null()).stderr(Redirect::null());

    let client = spawner.spawn(well()).await.expect("start a worker");

    assert_eq!(client.link("fd/1").await, Ok("/dev/null".into()));
    assert_eq!(client.link("fd/2").await, Ok("/dev/null".into()));
}

#[rpc_parallel::test]
async fn piped_outputs_hold_what_the_worker_says_and_end_with_it() {
    let (stdout, mut out) = Redirect::piped().expect("make a pipe");
    let (stderr, mut err) = Redirect::piped().expect("make a pipe");

    let spawner = reporter().stdout(stdout).stderr(stderr);
    let client = spawner.spawn(well()).await.expect("start a worker");
    client.say("to stdout", "to stderr").await.expect("call it");
    drop(client);

    let (mut said, mut told) = (String::new(), String::new());
    let read = timeout(Duration::from_secs(20), async {
        out.read_to_string(&mut said).await?;
        err.read_to_string(&mut told).await
    });
    read.await.expect("the pipes end").expect("the pipes work");
    assert_eq!((said.as_str(), told.as_str()), ("to stdout\n", "to stderr\n"));
}

#[rpc_parallel::test]
async fn the_stdin_of_a_worker_is_empty() {
    let client = Reporter::spawn(well()).await.expect("start a worker");

    assert_eq!(client.link("fd/0").await, Ok("/dev/null".into()));
}

#[rpc_parallel::test]
async fn a_worker_is_called_like_its_program() {
    let client = Reporter::spawn(well()).await.expect("start a worker");

    let own = fs::read("/proc/self/comm").expect("there is a /proc");
    assert_eq!(client.file("comm").await, Ok(own));
}

#[rpc_parallel::test]
async fn a_worker_has_no_secret_in_its_arguments_or_its_environment() {
    let begin = Begin::Well("open sesame".into());
    let client = Reporter::spawn(begin).await.expect("start a worker");
    assert_eq!(client.argument().await, Ok("open sesame".into()));

    let environment = client.file("environ").await.expect("read it");
    let arguments = client.file("cmdline").await.expect("read it");

    let variables = |bytes: Vec<u8>| -> Vec<OsString> {
        bytes.split(|it| *it == 0).map(|it| OsStr::from_bytes(it).to_owned()).collect()
    };
    let own = variables(fs::read("/proc/self/environ").expect("there is a /proc"));
    let mut new = variables(environment);
    new.retain(|it| !own.contains(it));
    // One variable: the device and the inode of a socket, the master's pid, and the depth.
    let [mark] = &new[..] else { panic!("{new:?}") };
    let mark = mark.to_str().and_then(|it| it.strip_prefix("RPC_PARALLEL_WORKER="));
    let numbers = mark.expect("it is ours").split(':').map(str::parse::<u64>);
    let numbers: Vec<_> = numbers.map(|it| it.expect("it is a number")).collect();
    assert_eq!(numbers[2..], [u64::from(std::process::id()), 1]);
    let arguments = String::from_utf8_lossy(&arguments);
    assert!(!arguments.contains("sesame"), "{arguments}");
    assert!(!arguments.contains(&client.worker_id().to_string()), "{arguments}");
}

#[rpc_parallel::test]
async fn no_process_inherits_what_belongs_to_another() {
    let spawning = (0..10).map(|_| {
        let (stdout, pipe) = Redirect::piped().expect("make a pipe");
        async move { (reporter().stdout(stdout).spawn(well()).await, pipe) }
    });
    let workers = join_all(spawning).await;

    let mut owners: HashMap<_, Vec<_>> = HashMap::new();
    for (client, _) in &workers {
        let client = client.as_ref().expect("start a worker");
        let pid = client.pid().await.expect("call it");
        for link in client.links("fd").await.expect("read them") {
            owners.entry(link).or_default().push(pid);
        }
    }

    // Each socket and each pipe belongs to one of them, unless it is older than all of them.
    let parent = format!("/proc/{}/fd", std::os::unix::process::parent_id());
    let inherited = fs::read_dir(parent).expect("whoever started this test lives");
    let inherited: Vec<_> =
        inherited.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).collect();
    let shared = owners.iter().filter(|(link, owners)| {
        let private = [b"socket:".as_slice(), b"pipe:"];
        private.iter().any(|it| link.as_os_str().as_bytes().starts_with(it))
            && owners.iter().any(|it| *it != owners[0])
            && !inherited.contains(link)
    });
    assert_eq!(shared.collect::<Vec<_>>(), []);
}

#[rpc_parallel::test]
async fn fifty_workers_start_at_once() {
    let spawned = join_all((0..50).map(|it| Reporter::spawn(Begin::Well(it.to_string())))).await;

    let clients: Vec<_> = spawned.into_iter().map(|it| it.expect("start a worker")).collect();
    let arguments = join_all(clients.iter().map(ReportsClient::argument)).await;
    let arguments: Result<Vec<_>, _> = arguments.into_iter().collect();
    assert_eq!(arguments, Ok((0..50).map(|it| it.to_string()).collect()));
}

#[rpc_parallel::test]
async fn dropping_a_spawning_ends_its_process() {
    for begin in [Begin::WaitsForEver, Begin::BlocksForEver] {
        let (stdout, pipe) = Redirect::piped().expect("make a pipe");

        let pid = tokio::select! {
            spawned = reporter().stdout(stdout).spawn(begin) => panic!("{spawned:?}"),
            pid = pid_from(pipe) => pid,
        };

        assert!(ends(pid).await, "nobody waits for it any more");
    }
}

/// Lets a connection wait for ever.
#[rpc_parallel::worker]
trait Unwelcoming {
    fn never(&self, cx: &Context<Unwelcome>);
}

#[derive(Default, WorkerState)]
struct Porter;

struct Unwelcome;

impl ConnectionState<Porter> for Unwelcome {
    type Init = ();

    async fn init(_: &Porter, (): ()) -> Result<Self, BoxError> {
        println!("{}", std::process::id());
        loop {
            std::thread::sleep(Duration::from_secs(1000));
        }
    }
}

#[rpc_parallel::worker]
impl Unwelcoming for Porter {
    fn never(&self, _: &Context<Unwelcome>) {}
}

#[rpc_parallel::test]
async fn dropping_a_spawning_ends_its_process_while_the_connection_begins() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");

    let pid = tokio::select! {
        spawned = Porter::spawner().stdout(stdout).spawn(()) => panic!("{spawned:?}"),
        pid = pid_from(pipe) => pid,
    };

    assert!(ends(pid).await, "nobody waits for it any more");
}

#[rpc_parallel::test]
async fn the_spawn_timeout_counts_the_first_connection() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let limit = Duration::from_millis(300);

    let spawned = Porter::spawner().stdout(stdout).spawn_timeout(limit).spawn(()).await;

    let error = spawned.expect_err("it never connects");
    assert!(matches!(error.kind(), SpawnErrorKind::TimedOut { within } if *within == limit));
    assert!(is_gone(pid_from(pipe).await), "nothing is left of it");
}

#[rpc_parallel::test]
async fn dropping_the_last_client_ends_the_worker() {
    let client = Reporter::spawn(well()).await.expect("start a worker");
    let clone = client.clone();
    let pid = client.pid().await.expect("call it");

    drop(client);
    assert_eq!(clone.pid().await, Ok(pid));
    drop(clone);

    assert!(ends(pid).await, "nobody can call it any more");
}

#[rpc_parallel::test]
async fn dropping_the_last_client_ends_a_worker_that_computes() {
    let client = Reporter::spawn(well()).await.expect("start a worker");
    let pid = client.pid().await.expect("call it");

    let late = client.compute().timeout(Duration::from_millis(100)).await;
    drop(client);

    assert!(late.is_err());
    assert!(ends(pid).await, "nobody can call it any more");
}

#[rpc_parallel::test]
async fn closing_the_client_ends_a_worker_that_computes() {
    let client = Reporter::spawn(well()).await.expect("start a worker");
    let pid = client.pid().await.expect("call it");

    let late = client.compute().timeout(Duration::from_millis(100)).await;
    client.close();

    assert!(late.is_err());
    assert!(ends(pid).await, "nobody can call it any more");
}

/// How a worker program that is none fared: the error's kind and text, and what is left.
fn unstartable(program: &[&str]) -> [String; 3] {
    let ended = Program::run(Command::new(env!("CARGO_BIN_EXE_unstartable")).args(program));
    let [kind, text @ .., left] = &ended.stdout[..] else { panic!("{ended:?}") };
    [kind.clone(), text.join("\n"), left.clone()]
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    // Several times: the failure may come before or after the first words to the process.
    for _ in 0..20 {
        let [kind, text, left] = unstartable(&["/does/not/exist"]);

        assert_eq!((kind.as_str(), left.as_str()), ("Process", "0 children after 0 s"));
        let expected = "cannot start the program `/does/not/exist`: No such file or directory";
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_program_that_exits_at_once_is_reported_with_its_code() {
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1)] {
        let [kind, text, left] = unstartable(&[program]);

        assert_eq!((kind.as_str(), left.as_str()), ("Died", "0 children after 0 s"));
        assert!(text.contains(&format!(" exited with code {code} after ")), "{text}");
    }
}

#[test]
fn the_last_words_of_a_program_that_exits_at_once_are_reported() {
    let [kind, text, left] = unstartable(&["/bin/sh", "-c", "echo out of order >&2; kill -9 $$"]);

    assert_eq!((kind.as_str(), left.as_str()), ("Died", "0 children after 0 s"));
    assert!(text.contains("was killed by signal 9 (SIGKILL)"), "{text}");
    assert!(text.ends_with("\n  | out of order"), "{text}");
}

#[test]
fn a_program_that_never_becomes_a_worker_is_ended_in_time() {
    let [kind, text, left] = unstartable(&["/bin/sleep", "1000"]);

    assert_eq!((kind.as_str(), left.as_str()), ("StartupTimedOut", "0 children after 0 s"));
    assert!(text.contains("did not become a worker within 300ms"), "{text}");
    assert!(text.contains("#[rpc_parallel::entry]"), "{text}");
}

#[test]
fn a_program_that_closes_its_stdin_and_lives_on_is_ended_in_time() {
    let [kind, text, left] = unstartable(&["/bin/sh", "-c", "exec <&-; exec sleep 1000"]);

    assert_eq!(kind, "ClosedControl");
    assert!(text.contains("closed its control socket (stdin) before it became a worker"), "{text}");
    assert!(left.starts_with("0 children"), "{left}");
}

#[test]
fn a_program_that_answers_nonsense_is_refused() {
    for nonsense in ["echo what do you want >&0; exec sleep 1000", "printf '\\0\\0\\0\\0' >&0"] {
        let [kind, _, left] = unstartable(&["/bin/sh", "-c", nonsense]);

        assert_eq!((kind.as_str(), left.as_str()), ("Process", "0 children after 0 s"));
    }
}

/// Runs a program that starts workers over and over, and checks that nothing of them is left.
fn assert_leaves_nothing(what: &str, count: u32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leaks"));
    let temporary = tempfile::tempdir().expect("make a directory");
    command.args([what, &count.to_string()]).env("TMPDIR", temporary.path());

    let ended = Program::run(&mut command);

    assert!(ended.status.success(), "{ended:?}");
    let [before, after] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert_eq!(before, after, "descriptors, threads and children");
    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0]);
}

fn left_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it is there");
    entries.map(|it| it.expect("read it").path()).collect()
}

#[test]
fn two_hundred_workers_one_after_the_other_leave_nothing_behind() {
    assert_leaves_nothing("spawn", 200);
}

#[test]
fn started_workers_that_are_closed_leave_nothing_behind() {
    assert_leaves_nothing("start", 50);
}

#[test]
fn served_workers_that_are_closed_leave_nothing_behind() {
    assert_leaves_nothing("serve", 50);
}

#[test]
fn served_workers_with_threads_of_their_own_leave_nothing_behind_however_they_end() {
    assert_leaves_nothing("serve apart", 50);
}

#[test]
fn workers_that_do_not_start_leave_nothing_behind() {
    assert_leaves_nothing("failing", 20);
}

#[test]
fn spawnings_that_are_dropped_leave_nothing_behind() {
    assert_leaves_nothing("dropped", 100);
}

/// A master that runs, and its workers.
struct Family {
    master: Program,
    workers: Vec<u32>,
}

impl Family {
    fn start(what: &str, count: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
        Self::start_as(command.args([what, &count.to_string()]), count)
    }

    /// Waits until the master and so many workers have said that they run.
    fn start_as(command: &mut Command, count: usize) -> Self {
        let master = Program::start(command);
        let (mut workers, mut ready) = (Vec::new(), false);
        while workers.len() < count || !ready {
            let line = master.line();
            match line.strip_prefix("worker ").map(str::parse) {
                Some(pid) => workers.push(pid.expect("it is a process id")),
                None if line == "ready" => ready = true,
                None => {}
            }
        }
        Self { master, workers }
    }

    fn kill(&mut self) {
        self.master.kill();
    }

    fn tell(mut self, order: &str) -> Ended {
        self.master.tell(order);
        let (workers, told) = (self.workers.clone(), Instant::now());
        let ended = self.master.end();
        assert_gone(&workers, told);
        ended
    }
}

/// How long a worker may live after its master: most of it is time to clean up.
const LIMIT: Duration = Duration::from_secs(2);

fn assert_gone(workers: &[u32], since: Instant) {
    assert!(!workers.is_empty());
    for worker in workers {
        let left = LIMIT.saturating_sub(since.elapsed());
        assert!(ends_within(*worker, left), "process {worker} outlives its master");
    }
}

/// Runs a master whose processes listen for each other, ends it, and checks that it leaves nothing.
fn assert_leaves_no_file(what: &str, end: impl FnOnce(Family)) {
    let temporary = tempfile::tempdir().expect("make a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let family = Family::start_as(command.args([what, "3"]).env("TMPDIR", temporary.path()), 3);
    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0], "while they listen");

    end(family);

    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0], "when they have ended");
}

fn return_now(family: Family) {
    assert!(family.tell("return").status.success());
}

fn kill_now(mut family: Family) {
    family.kill();
    assert_gone(&family.workers, Instant::now());
}

fn kill_all_at_once(mut family: Family) {
    family.kill();
    for worker in &family.workers {
        let worker = i32::try_from(*worker).ok().and_then(Pid::from_raw).expect("it is positive");
        // It fails where a worker has learned already that its master is gone.
        let _ = kill_process(worker, Signal::KILL);
    }
    assert_gone(&family.workers, Instant::now());
}

#[test]
fn nothing_is_left_of_listening_workers_when_their_master_ends() {
    assert_leaves_no_file("listening", return_now);
    assert_leaves_no_file("listening", kill_now);
}

#[test]
fn nothing_is_left_of_a_listening_master_however_it_ends() {
    assert_leaves_no_file("serving", return_now);
    assert_leaves_no_file("serving", kill_now);
}

#[test]
fn nothing_is_left_of_listeners_whose_processes_are_all_killed_at_once() {
    assert_leaves_no_file("listening", kill_all_at_once);
    assert_leaves_no_file("serving", kill_all_at_once);
}

#[test]
fn listeners_stand_in_any_temporary_directory_however_long_its_name() {
    let temporary = tempfile::tempdir().expect("make a directory");
    let long = temporary.path().join("a-build-of-something-with-a-long-name".repeat(3));
    assert!(long.as_os_str().len() > 108, "a socket's path is no longer than that");
    fs::create_dir(&long).expect("make a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));

    let family = Family::start_as(command.args(["listening", "2"]).env("TMPDIR", long), 2);

    assert!(family.tell("return").status.success());
}

#[test]
fn no_line_of_a_worker_is_lost_on_its_way_to_the_streams_of_its_master() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));

    let ended = Program::run(command.args(["telling", "1000"]));

    let told = |to: &str| -> Vec<_> { (1..=1000).map(|it| format!("line {it} to {to}")).collect() };
    let stdout: Vec<_> = ended.stdout.into_iter().filter(|it| it.starts_with("line")).collect();
    let stderr: Vec<_> = ended.stderr.lines().map(str::to_owned).collect();
    assert_eq!(stdout, told("stdout"));
    assert_eq!(stderr, told("stderr"));
}

#[test]
fn a_master_without_free_descriptors_is_told_so_and_leaves_nothing() {
    let shell = format!("ulimit -n 64; exec {} idle 100", env!("CARGO_BIN_EXE_lineage"));

    // It ends although its workers hold its stdout: they are gone too.
    let ended = Program::run(Command::new("/bin/sh").args(["-c", &shell]));

    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Too many open files (os error 24)"), "{ended:?}");
    assert!(ended.stdout.len() > 5, "{ended:?}");
}

#[test]
fn the_arguments_of_a_worker_tell_its_master_and_its_name() {
    let family = Family::start("idle", 1);

    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", family.workers[0]));

    let arguments = arguments.expect("it runs");
    let arguments: Vec<_> = arguments.split_terminator('\0').collect();
    let master = format!("worker-of-{}", family.master.pid());
    assert_eq!(arguments, [env!("CARGO_BIN_EXE_lineage"), &master, "idler"]);
}

#[test]
fn a_chain_of_masters_can_be_followed_by_the_arguments_of_their_workers() {
    let family = Family::start("generations", 4);

    let mut master = family.master.pid();
    for (generation, worker) in family.workers.iter().enumerate() {
        let arguments = fs::read_to_string(format!("/proc/{worker}/cmdline"));
        let arguments = arguments.expect("it runs");
        let mut arguments = arguments.split_terminator('\0').skip(1);
        assert_eq!(arguments.next(), Some(&*format!("worker-of-{master}")));
        let name = (generation > 0).then(|| format!("with {} to come", 3 - generation));
        assert_eq!(arguments.next(), name.as_deref());
        master = *worker;
    }
}

#[test]
fn the_mark_of_a_worker_means_nothing_to_what_it_starts() {
    let ended = Program::run(Command::new(env!("CARGO_BIN_EXE_role")).arg("of-a-child"));

    let expected = [
        "master, is_worker false, variable false",
        "worker, is_worker true, variable true",
        // It has inherited the variable, and a stdin that is none of ours.
        "master, is_worker false, variable true",
    ];
    assert_eq!(ended.stdout, expected, "{ended:?}");
}

#[test]
fn a_mark_that_names_no_socket_of_ours_means_nothing() {
    for mark in ["", "1", "1:1", "1:1:1:0", "worker", "18446744073709551615:0:0:0"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_role"));

        let ended = Program::run(command.env("RPC_PARALLEL_WORKER", mark));

        assert_eq!(ended.stdout, ["master, is_worker false, variable true"], "{ended:?}");
    }
}
