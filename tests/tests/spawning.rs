//! Workers start as their spawner requests or fail with a reason, and leave no resources behind.

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
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};

/// Functions that inspect their process.
#[rpc_parallel::worker]
trait Inspection {
    fn pid(&self) -> u32;
    fn argument(&self) -> String;
    fn variable(&self, name: OsString) -> Option<OsString>;
    fn current_dir(&self) -> Result<PathBuf, AnyError>;
    /// Returns the target of a link in the process's directory in `/proc`.
    fn link(&self, name: &str) -> Result<PathBuf, AnyError>;
    /// Returns the targets of all links of a directory there.
    fn links(&self, name: &str) -> Result<Vec<PathBuf>, AnyError>;
    fn file(&self, name: &str) -> Result<Vec<u8>, AnyError>;
    fn print(&self, out: &str, err: &str);
    fn compute(&self);
    async fn length_of_argument(&self) -> usize;
}

struct InspectionWorker(String);

/// What `init` does.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum InitMode {
    Return(String),
    Fail,
    FailWithLongError,
    PanicInInit,
    Sleep,
    Wait,
    Block,
}

impl WorkerState for InspectionWorker {
    type Init = InitMode;

    async fn init(mode: InitMode) -> Result<Self, BoxError> {
        let pid = std::process::id();
        match mode {
            InitMode::Return(argument) => return Ok(Self(argument)),
            InitMode::Fail => return Err(format!("process {pid} fails").into()),
            InitMode::FailWithLongError => {
                let more = "x".repeat(2 * 1024 * 1024);
                return Err(format!("process {pid} fails: {more}").into());
            }
            InitMode::PanicInInit => panic!("process {pid} panics"),
            _ => println!("{pid}"),
        }
        match mode {
            InitMode::Sleep => sleep(Duration::from_millis(1500)).await,
            InitMode::Wait => std::future::pending().await,
            _ => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
        }
        Ok(Self(String::new()))
    }
}

#[rpc_parallel::worker]
impl Inspection for InspectionWorker {
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
        // One link is that of the directory itself, which is closed by now.
        Ok(entries.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).collect())
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, AnyError> {
        Ok(fs::read(Path::new("/proc/self").join(name))?)
    }

    fn print(&self, out: &str, err: &str) {
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

fn return_empty() -> InitMode {
    InitMode::Return(String::new())
}

fn spawner() -> Spawner<InspectionWorker> {
    InspectionWorker::spawner()
}

/// Returns the process id in a text like `process 123 fails`.
fn pid_in(text: &str) -> u32 {
    let word = text.split_whitespace().skip_while(|it| *it != "process").nth(1);
    word.and_then(|it| it.parse().ok())
        .unwrap_or_else(|| panic!("expected a process id, found {text:?}"))
}

async fn pid_from(pipe: Receiver) -> u32 {
    let line = BufReader::new(pipe).lines().next_line().await;
    let line = line.expect("the pipe is readable").expect("the pipe has a line");
    line.parse().expect("the line is a process id")
}

fn kind(result: Result<InspectionClient, SpawnError>) -> SpawnErrorKind {
    let error = result.expect_err("the worker does not start");
    let text = error.to_string();
    assert!(text.starts_with("failed to start worker spawning::InspectionWorker: "), "{text}");
    into_kind(error.kind())
}

/// Copies the kinds that these tests check. Others cannot be cloned.
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
async fn failing_init_returns_reason_and_leaves_no_process() {
    let kind = kind(InspectionWorker::spawn(InitMode::Fail).await);

    let SpawnErrorKind::Init { why } = kind else { panic!("{kind}") };
    assert!(is_gone(pid_in(&why)), "{why}");
}

#[rpc_parallel::test]
async fn long_init_error_is_truncated() {
    let kind = kind(InspectionWorker::spawn(InitMode::FailWithLongError).await);

    let SpawnErrorKind::Init { why } = kind else { panic!("{kind}") };
    let text = why.strip_prefix("process ").and_then(|it| it.strip_suffix(" .."));
    let len = text.map(str::len);
    assert!(len.is_some_and(|it| (10_000..1_000_000).contains(&it)), "{len:?}");
    assert!(is_gone(pid_in(&why)));
}

#[rpc_parallel::test]
async fn panicking_init_returns_location_and_leaves_no_process() {
    let kind = kind(InspectionWorker::spawn(InitMode::PanicInInit).await);

    let SpawnErrorKind::InitPanicked(panic) = kind else { panic!("{kind}") };
    assert!(is_gone(pid_in(&panic.message)), "{panic}");
    assert!(panic.location.is_some_and(|it| it.contains("spawning.rs:")));
}

#[rpc_parallel::test]
async fn start_fails_like_spawn_if_init_fails() {
    let error = spawner().start(InitMode::Fail).await.expect_err("`init` fails");

    let SpawnErrorKind::Init { why } = error.kind() else { panic!("{error}") };
    assert!(is_gone(pid_in(why)), "{why}");
}

async fn assert_times_out(mode: InitMode) {
    let (stdout, pipe) = Redirect::piped().expect("create a pipe");
    let limit = Duration::from_millis(300);

    let began = Instant::now();
    let kind = kind(spawner().stdout(stdout).spawn_timeout(limit).spawn(mode).await);
    let took = began.elapsed();

    assert!(matches!(kind, SpawnErrorKind::TimedOut { within } if within == limit), "{kind}");
    assert!(took < limit + Duration::from_secs(5), "{took:?}");
    assert!(is_gone(pid_from(pipe).await), "the process is gone");
}

#[rpc_parallel::test]
async fn spawn_timeout_kills_worker_with_pending_init() {
    assert_times_out(InitMode::Wait).await;
}

#[rpc_parallel::test]
async fn spawn_timeout_kills_worker_with_blocking_init() {
    assert_times_out(InitMode::Block).await;
}

#[rpc_parallel::test]
async fn connect_timeout_excludes_init() {
    let limited = spawner().connect_timeout(Duration::from_secs(1)).stdout(Redirect::null());

    let client = limited.spawn(InitMode::Sleep).await.expect("the process connects within 1 s");

    assert_eq!(client.argument().await, Ok(String::new()));
}

#[rpc_parallel::test]
async fn missing_directory_is_named() {
    let spawner = spawner().current_dir("/there/is/no/such/directory");

    let kind = kind(spawner.spawn(return_empty()).await);

    let SpawnErrorKind::CurrentDir { path, why } = kind else { panic!("{kind}") };
    assert_eq!(path, Path::new("/there/is/no/such/directory"));
    assert!(why.contains("No such file or directory"), "{why}");
}

#[rpc_parallel::test]
async fn unopenable_output_is_named() {
    for (stream, spawner) in [
        ("stdout", spawner().stdout(Redirect::append("/no/such/directory/out"))),
        ("stderr", spawner().stderr(Redirect::truncate("/no/such/directory/err"))),
    ] {
        let kind = kind(spawner.spawn(return_empty()).await);

        let SpawnErrorKind::Redirect { stream: named, why } = kind else { panic!("{kind}") };
        assert_eq!(named, stream);
        assert!(why.contains("No such file or directory"), "{why}");
    }
}

#[rpc_parallel::test]
async fn large_init_argument_arrives() {
    // Larger than the buffer of the control socket by far.
    let large = "x".repeat(20_000_000);

    let client = InspectionWorker::spawn_ok(InitMode::Return(large)).await;

    assert_eq!(client.length_of_argument().await, Ok(20_000_000));
}

#[rpc_parallel::test]
async fn oversized_init_argument_is_refused_with_size_and_limit() {
    let settings = Settings::default().with_max_message_size(2000);

    let kind = kind(spawner().settings(settings).spawn(InitMode::Return("x".repeat(5000))).await);

    let SpawnErrorKind::InitArgument { why } = kind else { panic!("{kind}") };
    assert!(why.contains("message of 5011 bytes exceeds the limit of 2000 bytes"), "{why}");
}

#[rpc_parallel::test]
async fn environment_variables_keep_all_bytes() {
    let values = [
        OsString::new(),
        OsString::from(r#"potentially "problematic" \"test\" string ()!"#),
        OsString::from("two\nlines\tand = signs=$HOME `x` ; & | < > * ?"),
        OsString::from_vec((1..=255).collect()),
    ];

    for value in values {
        let spawner = spawner().env("VARIABLE", "overwritten").env("VARIABLE", &value);
        let client = spawner.spawn_ok(return_empty()).await;

        assert_eq!(client.variable("VARIABLE".into()).await, Ok(Some(value)));
        // Other variables are inherited.
        assert_eq!(client.variable("PATH".into()).await, Ok(std::env::var_os("PATH")));
    }
}

#[rpc_parallel::test]
async fn worker_starts_in_chosen_directory() {
    let directory = tempfile::tempdir().expect("create a directory");
    let directory = directory.path().canonicalize().expect("the directory exists");

    let other = spawner().current_dir(&directory).spawn_ok(return_empty()).await;
    let here = InspectionWorker::spawn_ok(return_empty()).await;

    assert_eq!(other.current_dir().await, Ok(directory));
    assert_eq!(here.current_dir().await.ok(), std::env::current_dir().ok());
}

#[rpc_parallel::test]
async fn outputs_append_to_or_truncate_files() {
    let directory = tempfile::tempdir().expect("create a directory");
    let [out, err] = ["out", "err"].map(|it| directory.path().join(it));
    fs::write(&out, "before\n").expect("the file is writable");
    fs::write(&err, "before\n").expect("the file is writable");
    let spawner = spawner()
        .current_dir(directory.path())
        .stdout(Redirect::append("out"))
        .stderr(Redirect::truncate(&err));

    let client = spawner.spawn_ok(return_empty()).await;
    client.print("to stdout", "to stderr").await.expect("the call succeeds");

    let read = [out, err].map(|it| fs::read_to_string(it).expect("the file is readable"));
    assert_eq!(read, ["before\nto stdout\n", "to stderr\n"]);
}

#[rpc_parallel::test]
async fn null_outputs_lead_to_dev_null() {
    let spawner = spawner().stdout(Redirect::null()).stderr(Redirect::null());

    let client = spawner.spawn_ok(return_empty()).await;

    assert_eq!(client.link("fd/1").await, Ok("/dev/null".into()));
    assert_eq!(client.link("fd/2").await, Ok("/dev/null".into()));
}

#[rpc_parallel::test]
async fn piped_outputs_end_with_worker() {
    let (stdout, mut out) = Redirect::piped().expect("create a pipe");
    let (stderr, mut err) = Redirect::piped().expect("create a pipe");

    let spawner = spawner().stdout(stdout).stderr(stderr);
    let client = spawner.spawn_ok(return_empty()).await;
    client.print("to stdout", "to stderr").await.expect("the call succeeds");
    drop(client);

    let (mut stdout, mut stderr) = (String::new(), String::new());
    let read = timeout(Duration::from_secs(20), async {
        out.read_to_string(&mut stdout).await?;
        err.read_to_string(&mut stderr).await
    });
    read.await.expect("the pipes end").expect("the pipes are readable");
    assert_eq!((stdout.as_str(), stderr.as_str()), ("to stdout\n", "to stderr\n"));
}

#[rpc_parallel::test]
async fn stdin_of_worker_is_dev_null() {
    let client = InspectionWorker::spawn_ok(return_empty()).await;

    assert_eq!(client.link("fd/0").await, Ok("/dev/null".into()));
}

#[rpc_parallel::test]
async fn worker_process_has_name_of_program() {
    let client = InspectionWorker::spawn_ok(return_empty()).await;

    let own = fs::read("/proc/self/comm").expect("/proc is mounted");
    assert_eq!(client.file("comm").await, Ok(own));
}

#[rpc_parallel::test]
async fn init_argument_is_absent_from_argv_and_environment() {
    let mode = InitMode::Return("secret argument".into());
    let client = InspectionWorker::spawn_ok(mode).await;
    assert_eq!(client.argument().await, Ok("secret argument".into()));

    let environment = client.file("environ").await.expect("the file is readable");
    let arguments = client.file("cmdline").await.expect("the file is readable");

    let variables = |bytes: Vec<u8>| -> Vec<OsString> {
        bytes.split(|it| *it == 0).map(|it| OsStr::from_bytes(it).to_owned()).collect()
    };
    let own = variables(fs::read("/proc/self/environ").expect("/proc is mounted"));
    let mut new = variables(environment);
    new.retain(|it| !own.contains(it));
    // The boot token holds the device and the inode of a socket, the pid of the master, and the depth.
    let [boot_token] = &new[..] else { panic!("{new:?}") };
    let boot_token = boot_token.to_str().and_then(|it| it.strip_prefix("RPC_PARALLEL_WORKER="));
    let numbers =
        boot_token.expect("the variable is the boot token").split(':').map(str::parse::<u64>);
    let numbers: Vec<_> = numbers.map(|it| it.expect("the text is a number")).collect();
    assert_eq!(numbers[2..], [u64::from(std::process::id()), 1]);
    let arguments = String::from_utf8_lossy(&arguments);
    assert!(!arguments.contains("secret"), "{arguments}");
    assert!(!arguments.contains(&client.worker_id().to_string()), "{arguments}");
}

#[rpc_parallel::test]
async fn workers_inherit_no_descriptors_of_each_other() {
    let spawning = (0..10).map(|_| {
        let (stdout, pipe) = Redirect::piped().expect("create a pipe");
        async move { (spawner().stdout(stdout).spawn_ok(return_empty()).await, pipe) }
    });
    let workers = join_all(spawning).await;

    let mut owners: HashMap<_, Vec<_>> = HashMap::new();
    for (client, _) in &workers {
        let pid = client.pid().await.expect("the call succeeds");
        for link in client.links("fd").await.expect("the directory is readable") {
            owners.entry(link).or_default().push(pid);
        }
    }

    // Each socket and each pipe belongs to one worker, unless this process inherited it. All processes
    // of a program with process functions share one socket, by which they start jobs.
    let parent = format!("/proc/{}/fd", std::os::unix::process::parent_id());
    let inherited = fs::read_dir(parent).expect("the parent process runs");
    let inherited: Vec<_> =
        inherited.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).collect();
    let shared = owners.iter().filter(|(link, owners)| {
        let private = [b"socket:".as_slice(), b"pipe:"];
        private.iter().any(|it| link.as_os_str().as_bytes().starts_with(it))
            && owners.iter().any(|it| *it != owners[0])
            && !inherited.contains(link)
    });
    let (of_all, of_some): (Vec<_>, Vec<_>) = shared.partition(|it| it.1.len() == workers.len());
    assert_eq!(of_some, []);
    assert!(of_all.len() <= 1, "{of_all:?}");
}

#[rpc_parallel::test]
async fn fifty_workers_start_concurrently() {
    let spawning = (0..50).map(|it| InspectionWorker::spawn_ok(InitMode::Return(it.to_string())));

    let clients = join_all(spawning).await;
    let arguments = join_all(clients.iter().map(InspectionClient::argument)).await;
    let arguments: Result<Vec<_>, _> = arguments.into_iter().collect();
    assert_eq!(arguments, Ok((0..50).map(|it| it.to_string()).collect()));
}

#[rpc_parallel::test]
async fn dropping_spawn_future_ends_process() {
    for mode in [InitMode::Wait, InitMode::Block] {
        let (stdout, pipe) = Redirect::piped().expect("create a pipe");

        let pid = tokio::select! {
            spawned = spawner().stdout(stdout).spawn(mode) => panic!("{spawned:?}"),
            pid = pid_from(pipe) => pid,
        };

        assert!(ends(pid).await, "the process ends with its future");
    }
}

/// A worker whose connections never begin.
#[rpc_parallel::worker]
trait NeverConnects {
    fn never(&self, cx: &Context<BlockedConnection>);
}

#[derive(Default, WorkerState)]
struct BlockingWorker;

struct BlockedConnection;

impl ConnectionState<BlockingWorker> for BlockedConnection {
    type Init = ();

    async fn init(_: &BlockingWorker, (): ()) -> Result<Self, BoxError> {
        println!("{}", std::process::id());
        loop {
            std::thread::sleep(Duration::from_secs(1000));
        }
    }
}

#[rpc_parallel::worker]
impl NeverConnects for BlockingWorker {
    fn never(&self, _: &Context<BlockedConnection>) {}
}

#[rpc_parallel::test]
async fn dropping_spawn_future_during_connection_init_ends_process() {
    let (stdout, pipe) = Redirect::piped().expect("create a pipe");

    let pid = tokio::select! {
        spawned = BlockingWorker::spawner().stdout(stdout).spawn(()) => panic!("{spawned:?}"),
        pid = pid_from(pipe) => pid,
    };

    assert!(ends(pid).await, "the process ends with its future");
}

#[rpc_parallel::test]
async fn spawn_timeout_includes_connection_init() {
    let (stdout, pipe) = Redirect::piped().expect("create a pipe");
    let limit = Duration::from_millis(300);

    let spawned = BlockingWorker::spawner().stdout(stdout).spawn_timeout(limit).spawn(()).await;

    let error = spawned.expect_err("the connection never begins");
    assert!(matches!(error.kind(), SpawnErrorKind::TimedOut { within } if *within == limit));
    assert!(is_gone(pid_from(pipe).await), "the process is gone");
}

#[rpc_parallel::test]
async fn dropping_last_client_ends_worker() {
    let client = InspectionWorker::spawn_ok(return_empty()).await;
    let clone = client.clone();
    let pid = client.pid().await.expect("the call succeeds");

    drop(client);
    assert_eq!(clone.pid().await, Ok(pid));
    drop(clone);

    assert!(ends(pid).await, "the worker ends with its last client");
}

#[rpc_parallel::test]
async fn dropping_last_client_ends_computing_worker() {
    let client = InspectionWorker::spawn_ok(return_empty()).await;
    let pid = client.pid().await.expect("the call succeeds");

    let late = client.compute().timeout(Duration::from_millis(100)).await;
    drop(client);

    assert!(late.is_err());
    assert!(ends(pid).await, "the worker ends with its last client");
}

#[rpc_parallel::test]
async fn closing_client_ends_computing_worker() {
    let client = InspectionWorker::spawn_ok(return_empty()).await;
    let pid = client.pid().await.expect("the call succeeds");

    let late = client.compute().timeout(Duration::from_millis(100)).await;
    client.close();

    assert!(late.is_err());
    assert!(ends(pid).await, "the worker ends with its last client");
}

/// Starts a worker from this program, and returns the kind and text of the error and the remaining
/// children.
fn unstartable(program: &[&str]) -> [String; 3] {
    let output = Program::run(Command::new(env!("CARGO_BIN_EXE_unstartable")).args(program));
    let [kind, text @ .., left] = &output.stdout[..] else { panic!("{output:?}") };
    [kind.clone(), text.join("\n"), left.clone()]
}

#[test]
fn unstartable_program_is_named() {
    // The program may fail before or after the master has written to it, so this is repeated.
    for _ in 0..20 {
        let [kind, text, left] = unstartable(&["/does/not/exist"]);

        assert_eq!((kind.as_str(), left.as_str()), ("Process", "0 children after 0 s"));
        let expected = "failed to start the program `/does/not/exist`: No such file or directory";
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn program_exiting_at_once_is_reported_with_exit_code() {
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1)] {
        let [kind, text, left] = unstartable(&[program]);

        assert_eq!((kind.as_str(), left.as_str()), ("Died", "0 children after 0 s"));
        assert!(text.contains(&format!(" exited with code {code} after ")), "{text}");
    }
}

#[test]
fn program_exiting_at_once_is_reported_with_stderr() {
    let [kind, text, left] = unstartable(&["/bin/sh", "-c", "echo last line >&2; kill -9 $$"]);

    assert_eq!((kind.as_str(), left.as_str()), ("Died", "0 children after 0 s"));
    assert!(text.contains("was killed by signal 9 (SIGKILL)"), "{text}");
    assert!(text.ends_with("\n  | last line"), "{text}");
}

#[test]
fn program_not_becoming_worker_is_killed_after_timeout() {
    let [kind, text, left] = unstartable(&["/bin/sleep", "1000"]);

    assert_eq!((kind.as_str(), left.as_str()), ("StartupTimedOut", "0 children after 0 s"));
    assert!(text.contains("did not become a worker within 300ms"), "{text}");
    assert!(text.contains("#[rpc_parallel::entry]"), "{text}");
}

#[test]
fn program_closing_control_socket_is_killed() {
    let [kind, text, left] = unstartable(&["/bin/sh", "-c", "exec <&-; exec sleep 1000"]);

    assert_eq!(kind, "ClosedControl");
    assert!(text.contains("closed its control socket (stdin) before it became a worker"), "{text}");
    assert!(left.starts_with("0 children"), "{left}");
}

#[test]
fn program_with_invalid_handshake_is_refused() {
    for script in ["echo invalid >&0; exec sleep 1000", "printf '\\0\\0\\0\\0' >&0"] {
        let [kind, _, left] = unstartable(&["/bin/sh", "-c", script]);

        assert_eq!((kind.as_str(), left.as_str()), ("Process", "0 children after 0 s"));
    }
}

/// Runs a program that starts workers repeatedly, and checks that they leave no resources.
fn assert_leaves_nothing(mode: &str, count: u32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leaks"));
    let temporary = tempfile::tempdir().expect("create a directory");
    command.args([mode, &count.to_string()]).env("TMPDIR", temporary.path());

    let output = Program::run(&mut command);

    assert!(output.status.success(), "{output:?}");
    let [before, after] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(before, after, "descriptors, threads and children");
    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0]);
}

fn left_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is readable");
    entries.map(|it| it.expect("the entry is readable").path()).collect()
}

#[test]
fn spawned_workers_leave_no_resources() {
    assert_leaves_nothing("spawn", 200);
}

#[test]
fn started_workers_leave_no_resources() {
    assert_leaves_nothing("start", 50);
}

#[test]
fn served_workers_leave_no_resources() {
    assert_leaves_nothing("serve", 50);
}

#[test]
fn served_workers_on_dedicated_threads_leave_no_resources() {
    assert_leaves_nothing("serve-on-dedicated-thread", 50);
}

#[test]
fn failed_starts_leave_no_resources() {
    assert_leaves_nothing("failing", 20);
}

#[test]
fn dropped_spawn_futures_leave_no_resources() {
    assert_leaves_nothing("dropped", 100);
}

/// A running master and its workers.
struct RunningTree {
    master: Program,
    workers: Vec<u32>,
}

impl RunningTree {
    fn start(mode: &str, count: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
        Self::start_as(command.args([mode, &count.to_string()]), count)
    }

    /// Waits until the master and this many workers run.
    fn start_as(command: &mut Command, count: usize) -> Self {
        let master = Program::start(command);
        let (mut workers, mut ready) = (Vec::new(), false);
        while workers.len() < count || !ready {
            let line = master.line();
            match line.strip_prefix("worker ").map(str::parse) {
                Some(pid) => workers.push(pid.expect("the line is a process id")),
                None if line == "ready" => ready = true,
                None => {}
            }
        }
        Self { master, workers }
    }

    fn kill(&mut self) {
        self.master.kill();
    }

    fn end(mut self, command: &str) -> ProgramOutput {
        self.master.write_line(command);
        let (workers, since) = (self.workers.clone(), Instant::now());
        let output = self.master.end();
        assert_gone(&workers, since);
        output
    }
}

/// How long a worker may run after the end of its master. Most of it is time to clean up.
const LIMIT: Duration = Duration::from_secs(2);

fn assert_gone(workers: &[u32], since: Instant) {
    assert!(!workers.is_empty());
    for worker in workers {
        let left = LIMIT.saturating_sub(since.elapsed());
        assert!(ends_within(*worker, left), "process {worker} outlives its master");
    }
}

/// Runs a master whose processes have listeners, ends it, and checks that no file is left.
fn assert_leaves_no_file(mode: &str, end: impl FnOnce(RunningTree)) {
    let temporary = tempfile::tempdir().expect("create a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let tree = RunningTree::start_as(command.args([mode, "3"]).env("TMPDIR", temporary.path()), 3);
    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0], "while they listen");

    end(tree);

    assert_eq!(left_in(temporary.path()), [] as [PathBuf; 0], "when they have ended");
}

fn return_now(tree: RunningTree) {
    assert!(tree.end("return").status.success());
}

fn kill_now(mut tree: RunningTree) {
    tree.kill();
    assert_gone(&tree.workers, Instant::now());
}

fn kill_all_at_once(mut tree: RunningTree) {
    tree.kill();
    for worker in &tree.workers {
        let worker = i32::try_from(*worker)
            .ok()
            .and_then(Pid::from_raw)
            .expect("the process id is positive");
        // Fails if the worker has ended after its master.
        let _ = kill_process(worker, Signal::KILL);
    }
    assert_gone(&tree.workers, Instant::now());
}

#[test]
fn listening_workers_leave_no_files_after_master_ends() {
    assert_leaves_no_file("listening", return_now);
    assert_leaves_no_file("listening", kill_now);
}

#[test]
fn listening_master_leaves_no_files() {
    assert_leaves_no_file("serving", return_now);
    assert_leaves_no_file("serving", kill_now);
}

#[test]
fn listeners_leave_no_files_if_all_processes_are_killed() {
    assert_leaves_no_file("listening", kill_all_at_once);
    assert_leaves_no_file("serving", kill_all_at_once);
}

#[test]
fn listeners_work_in_directory_with_long_path() {
    let temporary = tempfile::tempdir().expect("create a directory");
    let long = temporary.path().join("a-build-of-something-with-a-long-name".repeat(3));
    assert!(long.as_os_str().len() > 108, "the path is too long for a socket");
    fs::create_dir(&long).expect("create a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));

    let tree = RunningTree::start_as(command.args(["listening", "2"]).env("TMPDIR", long), 2);

    assert!(tree.end("return").status.success());
}

#[test]
fn inherited_outputs_lose_no_line() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));

    let output = Program::run(command.args(["printing", "1000"]));

    let expected =
        |to: &str| -> Vec<_> { (1..=1000).map(|it| format!("line {it} to {to}")).collect() };
    let stdout: Vec<_> = output.stdout.into_iter().filter(|it| it.starts_with("line")).collect();
    let stderr: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
    assert_eq!(stdout, expected("stdout"));
    assert_eq!(stderr, expected("stderr"));
}

#[test]
fn lack_of_descriptors_in_master_fails_spawn() {
    let shell = format!("ulimit -n 64; exec {} idle 100", env!("CARGO_BIN_EXE_lineage"));

    // `run` returns when stdout is closed, which is when the workers have ended as well.
    let output = Program::run(Command::new("/bin/sh").args(["-c", &shell]));

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("Too many open files (os error 24)"), "{output:?}");
    assert!(output.stdout.len() > 5, "{output:?}");
}

#[test]
fn worker_arguments_hold_master_pid_and_name() {
    let tree = RunningTree::start("idle", 1);

    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", tree.workers[0]));

    let arguments = arguments.expect("the process runs");
    let arguments: Vec<_> = arguments.split_terminator('\0').collect();
    let master = format!("worker-of-{}", tree.master.pid());
    assert_eq!(arguments, [env!("CARGO_BIN_EXE_lineage"), &master, "idle"]);
}

#[test]
fn worker_arguments_trace_chain_of_masters() {
    let tree = RunningTree::start("generations", 4);

    let mut master = tree.master.pid();
    for (generation, worker) in tree.workers.iter().enumerate() {
        let arguments = fs::read_to_string(format!("/proc/{worker}/cmdline"));
        let arguments = arguments.expect("the process runs");
        let mut arguments = arguments.split_terminator('\0').skip(1);
        assert_eq!(arguments.next(), Some(&*format!("worker-of-{master}")));
        assert_eq!(arguments.next(), Some(&*format!("node-{}", 4 - generation)));
        master = *worker;
    }
}

#[test]
fn inherited_boot_token_makes_no_worker() {
    let output = Program::run(Command::new(env!("CARGO_BIN_EXE_role")).arg("of-a-child"));

    let expected = [
        "master, is_worker false, variable false",
        "worker, is_worker true, variable true",
        // The child has inherited the variable, and its stdin is another file.
        "master, is_worker false, variable true",
    ];
    assert_eq!(output.stdout, expected, "{output:?}");
}

#[test]
fn invalid_boot_token_makes_no_worker() {
    for boot_token in ["", "1", "1:1", "1:1:1:0", "worker", "18446744073709551615:0:0:0"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_role"));

        let output = Program::run(command.env("RPC_PARALLEL_WORKER", boot_token));

        assert_eq!(output.stdout, ["master, is_worker false, variable true"], "{output:?}");
    }
}
