//! A worker process is set up as its spawner requests before user code runs, or the start fails with
//! an error that names the setting.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::Spawner;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{LaunchRequest, Launcher, Launching, ResourceLimit, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::is_gone;
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::SpawnerOk as _;
use rpc_parallel_tests::waiting::soon;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Functions that inspect their process, and functions that exceed limits.
#[rpc_parallel::worker]
trait Inspection {
    /// Returns a file of the process's directory in `/proc`.
    fn file(&self, name: &str) -> Result<String, AnyError>;
    /// Returns a file of the directory of each thread in `/proc`.
    fn threads(&self, name: &str) -> Result<Vec<String>, AnyError>;
    /// Starts a worker and returns a file of its directory in `/proc`.
    async fn file_of_a_worker(&self, name: &str) -> Result<String, AnyError>;
    fn session(&self) -> Session;
    fn create(&self, path: &Path) -> Result<(), AnyError>;
    fn variables(&self) -> HashMap<OsString, OsString>;
    fn allocate(&self, bytes: usize);
    fn compute(&self);
}

/// The ids of a process, its process group and its session.
#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Session {
    process: i32,
    group: i32,
    session: i32,
}

impl Session {
    /// Reads the ids from `/proc`, which has 0 for a group or session of an outer pid namespace.
    /// `getpgrp` and `getsid` cannot return that.
    fn here() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
        let (process, rest) = stat.split_once(' ').expect("the text begins with the process id");
        // The name of the process may contain parentheses and spaces.
        let (_name, fields) = rest.rsplit_once(") ").expect("the name is in parentheses");
        let fields: Vec<&str> = fields.split(' ').collect();
        let [process, group, session] =
            [process, fields[2], fields[3]].map(|it| it.parse().expect("the text is a number"));
        Self { process, group, session }
    }
}

struct InspectionWorker;

/// What `init` does.
#[derive(Serialize, Deserialize)]
enum InitMode {
    Return,
    /// Prints the process id, and blocks forever.
    Block,
}

impl WorkerState for InspectionWorker {
    type Init = InitMode;

    async fn init(mode: InitMode) -> Result<Self, BoxError> {
        match mode {
            InitMode::Return => Ok(Self),
            InitMode::Block => {
                println!("{}", std::process::id());
                loop {
                    std::thread::sleep(Duration::from_secs(1000));
                }
            }
        }
    }
}

#[rpc_parallel::worker]
impl Inspection for InspectionWorker {
    fn file(&self, name: &str) -> Result<String, AnyError> {
        Ok(fs::read_to_string(Path::new("/proc/self").join(name))?)
    }

    fn threads(&self, name: &str) -> Result<Vec<String>, AnyError> {
        let threads = fs::read_dir("/proc/self/task")?;
        threads.map(|it| Ok(fs::read_to_string(it?.path().join(name))?)).collect()
    }

    async fn file_of_a_worker(&self, name: &str) -> Result<String, AnyError> {
        let worker = InspectionWorker::spawn(InitMode::Return).await?;
        Ok(worker.file(name).await?)
    }

    fn session(&self) -> Session {
        Session::here()
    }

    fn create(&self, path: &Path) -> Result<(), AnyError> {
        Ok(fs::write(path, "")?)
    }

    fn variables(&self) -> HashMap<OsString, OsString> {
        std::env::vars_os().collect()
    }

    fn allocate(&self, bytes: usize) {
        std::hint::black_box(vec![1_u8; bytes]);
    }

    fn compute(&self) {
        loop {
            std::hint::spin_loop();
        }
    }
}

fn spawner() -> Spawner<InspectionWorker> {
    InspectionWorker::spawner()
}

async fn spawn(spawner: Spawner<InspectionWorker>) -> InspectionClient {
    spawner.spawn_ok(InitMode::Return).await
}

/// Starts a worker that cannot be set up, and returns the failed step and the reason.
async fn refusal(spawner: Spawner<InspectionWorker>) -> (String, String) {
    let error = spawner.spawn(InitMode::Return).await.expect_err("the set-up fails");
    let text = error.to_string();
    match error.kind() {
        SpawnErrorKind::SetUp { tried, why } => {
            let expected = format!(
                "failed to start worker set_up::InspectionWorker: failed to {tried}: {why}"
            );
            assert_eq!(text, expected);
            (tried.clone(), why.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[rpc_parallel::test]
async fn umask_applies_to_files_of_worker() {
    let directory = tempfile::tempdir().expect("create a directory");
    let [out, created] = ["out", "created"].map(|it| directory.path().join(it));
    let spawner = spawner().umask(0o027).stdout(Redirect::append(&out));

    let client = spawn(spawner).await;
    client.create(&created).await.expect("the file can be created");

    for (path, expected) in [(out, 0o640), (created, 0o640)] {
        let mode = fs::metadata(path).expect("the file exists").permissions().mode();
        assert_eq!(mode & 0o777, expected);
    }
}

#[rpc_parallel::test]
async fn umask_is_inherited_by_default() {
    let umask = |status: Result<String, _>| {
        let status = status.expect("the file is readable");
        status.lines().find_map(|it| it.strip_prefix("Umask:\t")).map(str::to_owned)
    };
    // No other process of this test has this umask.
    let master = spawn(spawner().umask(0o135)).await;

    let of_master = umask(master.file("status").await);
    let of_worker = umask(master.file_of_a_worker("status").await);

    assert_eq!(of_master.as_deref(), Some("0135"));
    assert_eq!(of_worker, of_master);
}

/// Returns the soft and the hard limits of a process.
async fn limits(client: &InspectionClient) -> HashMap<String, [String; 2]> {
    let table = client.file("limits").await.expect("the file is readable");
    let rows = table.lines().skip(1).map(|row| {
        let (name, numbers) = row.split_at(26);
        let mut numbers = numbers.split_whitespace().map(str::to_owned);
        let mut next = || numbers.next().expect("the row has two numbers");
        (name.trim().to_owned(), [next(), next()])
    });
    rows.collect()
}

#[rpc_parallel::test]
async fn resource_limits_are_set_in_worker() {
    let limited = [
        ("Max address space", ResourceLimit::memory(8 << 30), (8_u64 << 30).to_string()),
        ("Max data size", ResourceLimit::data(4 << 30), (4_u64 << 30).to_string()),
        ("Max stack size", ResourceLimit::stack(4 << 20), (4 << 20).to_string()),
        ("Max locked memory", ResourceLimit::locked_memory(4096), "4096".to_owned()),
        ("Max cpu time", ResourceLimit::cpu_seconds(1000), "1000".to_owned()),
        ("Max file size", ResourceLimit::file_size(1 << 20), (1 << 20).to_string()),
        ("Max core file size", ResourceLimit::core_size(0), "0".to_owned()),
        ("Max open files", ResourceLimit::open_files(100), "100".to_owned()),
        ("Max processes", ResourceLimit::processes(5000), "5000".to_owned()),
    ];

    let spawner = limited.iter().fold(spawner(), |spawner, (_, limit, _)| spawner.limit(*limit));
    let limits = limits(&spawn(spawner).await).await;

    for (name, _, expected) in limited {
        assert_eq!(limits[name], [expected.clone(), expected], "{name}");
    }
}

#[rpc_parallel::test]
async fn hard_limit_can_exceed_soft_limit() {
    let client = spawn(spawner().limit(ResourceLimit::open_files(50).hard(100))).await;

    assert_eq!(limits(&client).await["Max open files"], ["50", "100"]);
}

#[rpc_parallel::test]
async fn later_limit_on_same_resource_wins() {
    let spawner = spawner().limit(ResourceLimit::open_files(50)).limit(ResourceLimit::core_size(0));

    let client = spawn(spawner.limit(ResourceLimit::open_files(60))).await;

    let limits = limits(&client).await;
    assert_eq!(limits["Max open files"], ["60", "60"]);
    assert_eq!(limits["Max core file size"], ["0", "0"]);
}

#[rpc_parallel::test]
async fn rejected_limit_is_named() {
    let (tried, why) = refusal(spawner().limit(ResourceLimit::open_files(100).hard(50))).await;

    assert_eq!(tried, "set its resource limit open files 100 (hard: 50)");
    assert_eq!(why, "Invalid argument (os error 22)");
}

#[rpc_parallel::test]
async fn worker_exceeding_memory_limit_dies_out_of_memory() {
    // A backtrace would displace the line about the allocation.
    let spawner = spawner().env("RUST_BACKTRACE", "0").limit(ResourceLimit::core_size(0));
    let client = spawn(spawner.limit(ResourceLimit::memory(1 << 30))).await;

    let error = client.allocate(2 << 30).await.expect_err("the memory limit is lower");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory);
    let reported = failure.stderr().iter().any(|it| it.contains("allocation of 2147483648 bytes"));
    assert!(reported, "{error}");
}

#[rpc_parallel::test]
async fn worker_exceeding_cpu_limit_is_killed() {
    let client =
        spawn(spawner().limit(ResourceLimit::cpu_seconds(1)).limit(ResourceLimit::core_size(0)))
            .await;

    let error = soon(client.compute()).await.expect_err("the CPU time limit is 1 s");

    assert!(error.to_string().contains("was killed by signal"), "{error}");
}

#[rpc_parallel::test]
async fn nice_value_applies_to_all_threads() {
    let client = spawn(spawner().nice(7)).await;

    let threads = client.threads("stat").await.expect("the files are readable");

    let nice = |stat: &String| -> Option<String> {
        // The name before the last parenthesis may contain any characters.
        stat.rsplit_once(')')?.1.split_whitespace().nth(16).map(str::to_owned)
    };
    let nice: Vec<_> = threads.iter().filter_map(nice).collect();
    assert!(nice.len() > 1, "{nice:?}");
    assert!(nice.iter().all(|it| it == "7"), "{nice:?}");
}

#[rpc_parallel::test]
async fn nice_value_out_of_range_is_refused() {
    let (tried, why) = refusal(spawner().nice(100)).await;

    assert_eq!(tried, "set its nice value to 100");
    assert_eq!(why, "the maximum is 19");
}

#[rpc_parallel::test]
async fn cpu_affinity_applies_to_all_threads() {
    let client = spawn(spawner().cpus([0])).await;

    let threads = client.threads("status").await.expect("the files are readable");

    let allowed: Vec<_> = threads.iter().filter_map(|it| allowed_cpus(it)).collect();
    assert!(allowed.len() > 1, "{allowed:?}");
    assert!(allowed.iter().all(|it| *it == "0"), "{allowed:?}");
}

#[rpc_parallel::test]
async fn all_threads_have_cpus_of_master() {
    let client = spawn(spawner()).await;
    let own = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let own = allowed_cpus(&own).expect("the kernel lists the CPUs");

    // A thread that has just been started is about to leave the CPU of the one that started it.
    let same = async {
        loop {
            let threads = client.threads("status").await.expect("the files are readable");
            let allowed: Vec<_> = threads.iter().filter_map(|it| allowed_cpus(it)).collect();
            if allowed.len() > 1 && allowed.iter().all(|it| *it == own) {
                break;
            }
        }
    };

    soon(same).await;
}

/// Returns the list of CPUs in the text of `/proc/PID/status`.
fn allowed_cpus(status: &str) -> Option<&str> {
    status.lines().find_map(|it| it.strip_prefix("Cpus_allowed_list:")).map(str::trim)
}

#[rpc_parallel::test]
async fn unavailable_cpu_is_named() {
    for (cpus, missing) in [(vec![0, 1000], "1000"), (vec![100_000], "100000")] {
        let (tried, why) = refusal(spawner().cpus(cpus.clone())).await;

        assert_eq!(tried, format!("set its CPU affinity to {cpus:?}"));
        assert_eq!(why, format!("CPU {missing} is not available to this process"));
    }
    let (tried, why) = refusal(spawner().cpus([])).await;
    assert_eq!((tried.as_str(), why.as_str()), NO_PROCESSOR);
}

const NO_PROCESSOR: (&str, &str) = ("set its CPU affinity to []", "Invalid argument (os error 22)");

#[rpc_parallel::test]
async fn worker_leads_its_own_session() {
    let session = spawn(spawner()).await.session().await.expect("the call succeeds");

    assert_eq!((session.group, session.session), (session.process, session.process));
}

#[rpc_parallel::test]
async fn foreground_worker_stays_in_process_group_of_master() {
    let session = spawn(spawner().foreground()).await.session().await.expect("the call succeeds");

    let own = Session::here();
    assert_ne!(session.process, own.process);
    assert_eq!((session.group, session.session), (own.group, own.session));
}

/// Sends Ctrl-C to the terminal of a master, and returns how the master ends.
fn interrupt(mode: &str) -> ProgramOutput {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open a pseudoterminal");
    unlockpt(&terminal).expect("the pseudoterminal can be unlocked");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let end = ioctl_tiocgptpeer(&terminal, flags).expect("the other end can be opened");
    let mut command = Command::new(env!("CARGO_BIN_EXE_terminal"));
    // A process that runs in the background may ignore SIGINT, and its children inherit that.
    command.args(["env", "--default-signal=INT", env!("CARGO_BIN_EXE_interrupted"), mode]);

    let master = Program::start_at(&mut command, end);
    assert_eq!(master.line(), "ready");
    rustix::io::write(&terminal, b"\x03").expect("the terminal is writable");

    master.end()
}

#[test]
fn terminal_ctrl_c_reaches_master_only() {
    for mode in ["own-session", "wrapped"] {
        let output = interrupt(mode);

        assert_eq!(output.stdout, ["the worker runs"], "{mode}: {output:?}");
    }
}

#[test]
fn terminal_ctrl_c_reaches_foreground_worker() {
    let output = interrupt("foreground");

    let [line] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(line.contains("was killed by signal 2 (SIGINT)"), "{line}");
}

#[rpc_parallel::test]
async fn init_timeout_kills_spawned_worker() {
    let (stdout, pipe) = Redirect::piped().expect("create a pipe");
    let limit = Duration::from_millis(200);
    let spawner = spawner().stdout(stdout).init_timeout(limit);

    let error = soon(spawner.spawn(InitMode::Block)).await.expect_err("`init` blocks");

    let text = error.to_string();
    assert!(text.ends_with(": its `init` did not return within 200ms"), "{text}");
    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { within } if *within == limit));
    let pid = BufReader::new(pipe).lines().next_line().await.expect("the pipe is readable");
    let pid = pid.and_then(|it| it.parse().ok()).expect("the line is a process id");
    assert!(is_gone(pid), "the process is gone");
}

#[rpc_parallel::test]
async fn init_timeout_applies_to_start() {
    let spawner = spawner().stdout(Redirect::null()).init_timeout(Duration::from_millis(200));

    let error = soon(spawner.start(InitMode::Block)).await.expect_err("`init` blocks");

    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { .. }), "{error}");
}

#[rpc_parallel::test]
async fn init_timeout_excludes_process_start() {
    let never = WrapperLauncher::new("/bin/sh").args(["-c", "exec sleep 1000", "sh"]);
    let limited = spawner().launcher(never).init_timeout(Duration::from_secs(1000));

    let spawning = limited.connect_timeout(Duration::from_millis(50)).spawn(InitMode::Return);

    let error = soon(spawning).await.expect_err("the program does not become a worker");
    assert!(matches!(error.kind(), SpawnErrorKind::StartupTimedOut { .. }), "{error}");
}

/// Returns whether `strace` works here.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    traced.is_ok_and(|it| it.status.success())
}

/// Starts a worker from this program on a system whose `execve` takes 3 s. Returns the kind of the error and the
/// remaining children, or `None` without `strace`.
fn start_slowly(program: &[&str], variables: &[(&str, &str)]) -> Option<[String; 2]> {
    if !can_trace() {
        println!("skipped: `strace`, which delays `execve`, does not work here");
        return None;
    }
    let mut command = Command::new("strace");
    // The delay is that of a program on a slow file system.
    let slow = "--inject=execve:delay_enter=3000000";
    command.args(["-f", "-o", "/dev/null", "-P", program[0], slow]);
    command.arg(env!("CARGO_BIN_EXE_unstartable")).args(program).envs(variables.iter().copied());
    let began = Instant::now();

    let output = Program::run(&mut command);

    assert!(began.elapsed() > Duration::from_secs(2), "`execve` was delayed: {output:?}");
    let [kind, .., left] = &output.stdout[..] else { panic!("{output:?}") };
    Some([kind.clone(), left.clone()])
}

#[test]
fn spawn_timeout_includes_slow_process_creation() {
    let Some([kind, left]) = start_slowly(&["/bin/cat"], &[("LIMIT_ALL", "")]) else { return };

    assert_eq!(kind, "TimedOut");
    assert!(left.ends_with("after 0 s"), "{left}");
}

#[test]
fn connect_timeout_counts_from_execution_of_program() {
    let Some([kind, left]) = start_slowly(&["/bin/sleep", "1000"], &[]) else { return };

    assert_eq!(kind, "StartupTimedOut");
    assert!(left.ends_with("after 3 s"), "{left}");
}

#[rpc_parallel::test]
async fn variable_names_keep_all_legal_bytes() {
    let name = OsString::from_vec((1..=255).filter(|it| *it != b'=').collect());

    let client = spawn(spawner().env(&name, "carried")).await;

    let variables = client.variables().await.expect("the call succeeds");
    assert_eq!(variables.get(&name).map(|it| &**it), Some(OsStr::new("carried")));
}

#[rpc_parallel::test]
async fn illegal_variables_are_refused_before_start() {
    let boot_token = "RPC_PARALLEL_WORKER";
    for (spawner, name, expected) in [
        (spawner().env("", "b"), "", "its name is empty"),
        (spawner().env("A=B", "c"), "A=B", "its name contains `=`"),
        (spawner().env("A\0B", "c"), "A\0B", "its name contains a zero byte"),
        (spawner().env("A", "b\0c"), "A", "its value contains a zero byte"),
        (spawner().env(boot_token, "1:1"), boot_token, "it is reserved"),
        (spawner().env_remove(boot_token), boot_token, "it is reserved"),
        (spawner().env_remove("A=B"), "A=B", "its name contains `=`"),
        // The launcher is not called.
        (spawner().launcher(PanickingLauncher).env("", "b"), "", "its name is empty"),
    ] {
        let error = spawner.spawn(InitMode::Return).await.expect_err("the variable is refused");

        let SpawnErrorKind::Environment { variable, why } = error.kind() else { panic!("{error}") };
        assert_eq!((variable.as_str(), why.as_str()), (name, expected));
        let text = format!("failed to set the environment variable `{name}`: {expected}");
        assert!(error.to_string().ends_with(&text), "{error}");
    }
}

/// A launcher that panics if it is called.
struct PanickingLauncher;

impl Launcher for PanickingLauncher {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        panic!("called to start {worker:?}")
    }
}

#[rpc_parallel::test]
async fn removed_variable_is_not_inherited() {
    let own = std::env::var_os("PATH").expect("tests have a PATH");

    let without = spawn(spawner().env_remove("PATH").env("OTHER", "there")).await;
    let with = spawn(spawner().env_remove("PATH").env("PATH", "/other")).await;

    let [without, with] = [without, with].map(|it| it.variables());
    let without = without.await.expect("the call succeeds");
    assert_eq!(without.get(OsStr::new("PATH")), None);
    assert_eq!(without.get(OsStr::new("OTHER")), Some(&OsString::from("there")));
    let with = with.await.expect("the call succeeds");
    assert_ne!(with.get(OsStr::new("PATH")), Some(&own));
    assert_eq!(with.get(OsStr::new("PATH")), Some(&OsString::from("/other")));
}

#[rpc_parallel::test]
async fn cleared_environment_holds_later_variables_and_boot_token() {
    let client = spawn(spawner().env("BEFORE", "1").env_clear().env("AFTER", "2")).await;

    let variables = client.variables().await.expect("the call succeeds");
    let mut names: Vec<_> = variables.keys().map(|it| it.to_string_lossy()).collect();
    names.sort();
    assert_eq!(names, ["AFTER", "RPC_PARALLEL_WORKER"]);
}

#[test]
fn workers_inherit_environment_of_master() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let master =
        command.args(["idle", "1"]).env("RUST_LOG", "debug").env("INHERITED", "a \u{e4}\t");
    let master = Program::start(master);
    let worker = master.line();
    let worker = worker.strip_prefix("worker ").expect("the line has a process id");

    let environment = fs::read(format!("/proc/{worker}/environ")).expect("the process runs");

    let variables: Vec<_> = environment.split(|it| *it == 0).collect();
    for expected in ["RUST_LOG=debug", "RUST_BACKTRACE=0", "INHERITED=a \u{e4}\t"] {
        assert!(variables.contains(&expected.as_bytes()), "{expected}");
    }
}

#[rpc_parallel::test]
async fn set_variable_overrides_inherited_one() {
    let inherited = std::env::var_os("PATH").expect("tests have a PATH");

    let set = spawn(spawner().env("PATH", "/other")).await;
    let other = spawn(spawner()).await;

    let [set, other] = [set.variables().await, other.variables().await]
        .map(|it| it.expect("the call succeeds")[OsStr::new("PATH")].clone());
    assert_eq!(set, "/other");
    assert_eq!(other, inherited);
}

/// Runs a program that starts workers without resources, and returns its lines about their errors.
fn exhausted(command: &mut Command) -> Vec<String> {
    let output = Program::run(command);
    assert!(output.status.success(), "{output:?}");
    let [lines @ .., before, after] = &output.stdout[..] else { panic!("{output:?}") };
    assert_eq!(before, after, "descriptors, threads and children");
    lines.to_vec()
}

#[test]
fn lack_of_descriptors_is_reported_at_every_start_step() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhausted"));

    let lines = exhausted(command.arg("descriptors"));

    // The first of thirty starts has no descriptor, and the last has enough.
    let first = "failed to make the pipes of its output: Too many open files (os error 24)";
    assert!(lines[0].contains(first), "{}", lines[0]);
    assert_eq!(lines.last().map(String::as_str), Some("running"));
    let reported = lines.iter().filter(|it| it.contains("oo many open files")).count();
    assert!(reported > 3, "{lines:#?}");
}

#[test]
fn process_limit_of_master_is_reported() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhausted"));
    if rustix::process::geteuid().is_root() {
        // The limit does not apply to root.
        command.uid(65534).gid(65534);
        let runnable = Command::new(env!("CARGO_BIN_EXE_exhausted")).uid(65534).output();
        if let Err(error) = runnable {
            println!("skipped: only root can run the program: {error}");
            return;
        }
    }

    let lines = exhausted(command.arg("processes"));

    let [line] = &lines[..] else { panic!("{lines:?}") };
    let expected = "Resource temporarily unavailable (os error 11)";
    assert!(line.contains("failed to start the program `/proc/self/exe`"), "{line}");
    assert!(line.ends_with(expected), "{line}");
}
