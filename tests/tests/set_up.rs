//! A worker's process is as it was asked to be before anything of the user's runs in it, or the
//! error says what could not be had.

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
use rpc_parallel::launch::{ResourceLimit, WrapperLauncher};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::is_gone;
use rpc_parallel_tests::program::{Ended, Program};
use rpc_parallel_tests::waiting::soon;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// What a process has become.
#[rpc_parallel::worker]
trait Looks {
    /// Reads a file of the process's own directory in /proc.
    fn file(&self, name: &str) -> Result<String, AnyError>;
    /// Reads such a file of each of its threads.
    fn threads(&self, name: &str) -> Result<Vec<String>, AnyError>;
    /// Has a worker of its own read such a file.
    async fn file_of_a_worker(&self, name: &str) -> Result<String, AnyError>;
    fn session(&self) -> Session;
    fn create(&self, path: &Path) -> Result<(), AnyError>;
    fn variables(&self) -> HashMap<OsString, OsString>;
    fn allocate(&self, bytes: usize);
    fn compute(&self);
}

/// Where a process stands among others.
#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Session {
    process: i32,
    group: i32,
    session: i32,
}

impl Session {
    /// Reads it from /proc: there, a group or session that was made outside of this process's
    /// namespace is 0, which `getpgrp` and `getsid` cannot say.
    fn here() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").expect("there is a /proc");
        let (process, rest) = stat.split_once(' ').expect("it begins with the process");
        // The name before it, which is in parentheses, may have any of these characters.
        let (_name, fields) = rest.rsplit_once(") ").expect("the name is in parentheses");
        let fields: Vec<&str> = fields.split(' ').collect();
        let [process, group, session] =
            [process, fields[2], fields[3]].map(|it| it.parse().expect("it is a number"));
        Self { process, group, session }
    }
}

struct Looking;

/// How its `init` goes.
#[derive(Serialize, Deserialize)]
enum Begin {
    Well,
    /// It prints its process id, and does not return.
    Blocks,
}

impl WorkerState for Looking {
    type Init = Begin;

    async fn init(begin: Begin) -> Result<Self, BoxError> {
        match begin {
            Begin::Well => Ok(Self),
            Begin::Blocks => {
                println!("{}", std::process::id());
                loop {
                    std::thread::sleep(Duration::from_secs(1000));
                }
            }
        }
    }
}

#[rpc_parallel::worker]
impl Looks for Looking {
    fn file(&self, name: &str) -> Result<String, AnyError> {
        Ok(fs::read_to_string(Path::new("/proc/self").join(name))?)
    }

    fn threads(&self, name: &str) -> Result<Vec<String>, AnyError> {
        let threads = fs::read_dir("/proc/self/task")?;
        threads.map(|it| Ok(fs::read_to_string(it?.path().join(name))?)).collect()
    }

    async fn file_of_a_worker(&self, name: &str) -> Result<String, AnyError> {
        let worker = Looking::spawn(Begin::Well).await?;
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

fn looking() -> Spawner<Looking> {
    Looking::spawner()
}

async fn spawn(spawner: Spawner<Looking>) -> LooksClient {
    spawner.spawn(Begin::Well).await.expect("start a worker")
}

/// Starts what cannot be set up, and returns what was tried and why it failed.
async fn refusal(spawner: Spawner<Looking>) -> (String, String) {
    let error = spawner.spawn(Begin::Well).await.expect_err("it cannot be set up");
    let text = error.to_string();
    match error.kind() {
        SpawnErrorKind::SetUp { tried, why } => {
            let expected = format!("start worker set_up::Looking: cannot {tried}: {why}");
            assert_eq!(text, expected);
            (tried.clone(), why.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[rpc_parallel::test]
async fn files_of_a_worker_lose_the_permissions_that_its_umask_names() {
    let directory = tempfile::tempdir().expect("make a directory");
    let [out, created] = ["out", "created"].map(|it| directory.path().join(it));
    let spawner = looking().umask(0o027).stdout(Redirect::append(&out));

    let client = spawn(spawner).await;
    client.create(&created).await.expect("create a file");

    for (path, expected) in [(out, 0o640), (created, 0o640)] {
        let mode = fs::metadata(path).expect("it was created").permissions().mode();
        assert_eq!(mode & 0o777, expected);
    }
}

#[rpc_parallel::test]
async fn a_worker_has_the_umask_of_its_master_where_none_is_said() {
    let mask = |status: Result<String, _>| {
        let status = status.expect("read it");
        status.lines().find_map(|it| it.strip_prefix("Umask:\t")).map(str::to_owned)
    };
    // Nobody else has this one.
    let master = spawn(looking().umask(0o135)).await;

    let of_the_master = mask(master.file("status").await);
    let of_its_worker = mask(master.file_of_a_worker("status").await);

    assert_eq!(of_the_master.as_deref(), Some("0135"));
    assert_eq!(of_its_worker, of_the_master);
}

/// Returns the soft and the hard limits of a process.
async fn limits(client: &LooksClient) -> HashMap<String, [String; 2]> {
    let table = client.file("limits").await.expect("read it");
    let rows = table.lines().skip(1).map(|row| {
        let (name, numbers) = row.split_at(26);
        let mut numbers = numbers.split_whitespace().map(str::to_owned);
        let mut next = || numbers.next().expect("there are two numbers");
        (name.trim().to_owned(), [next(), next()])
    });
    rows.collect()
}

#[rpc_parallel::test]
async fn each_limit_is_one_of_the_system() {
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

    let spawner = limited.iter().fold(looking(), |spawner, (_, limit, _)| spawner.limit(*limit));
    let limits = limits(&spawn(spawner).await).await;

    for (name, _, expected) in limited {
        assert_eq!(limits[name], [expected.clone(), expected], "{name}");
    }
}

#[rpc_parallel::test]
async fn a_limit_may_leave_room_for_the_worker_to_raise_it() {
    let client = spawn(looking().limit(ResourceLimit::open_files(50).hard(100))).await;

    assert_eq!(limits(&client).await["Max open files"], ["50", "100"]);
}

#[rpc_parallel::test]
async fn of_two_limits_on_the_same_the_later_one_counts() {
    let spawner = looking().limit(ResourceLimit::open_files(50)).limit(ResourceLimit::core_size(0));

    let client = spawn(spawner.limit(ResourceLimit::open_files(60))).await;

    let limits = limits(&client).await;
    assert_eq!(limits["Max open files"], ["60", "60"]);
    assert_eq!(limits["Max core file size"], ["0", "0"]);
}

#[rpc_parallel::test]
async fn a_limit_that_the_system_refuses_is_named() {
    let (tried, why) = refusal(looking().limit(ResourceLimit::open_files(100).hard(50))).await;

    assert_eq!(tried, "limit it to open files 100 (hard: 50)");
    assert_eq!(why, "Invalid argument (os error 22)");
}

#[rpc_parallel::test]
async fn a_worker_that_takes_more_memory_than_it_may_dies_and_says_so() {
    // A backtrace would take the place of the line that counts.
    let spawner = looking().env("RUST_BACKTRACE", "0").limit(ResourceLimit::core_size(0));
    let client = spawn(spawner.limit(ResourceLimit::memory(1 << 30))).await;

    let error = client.allocate(2 << 30).await.expect_err("there is not so much");

    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::OutOfMemory);
    let said = failure.stderr().iter().any(|it| it.contains("allocation of 2147483648 bytes"));
    assert!(said, "{error}");
}

#[rpc_parallel::test]
async fn a_worker_that_computes_for_longer_than_it_may_is_killed() {
    let client =
        spawn(looking().limit(ResourceLimit::cpu_seconds(1)).limit(ResourceLimit::core_size(0)))
            .await;

    let error = soon(client.compute()).await.expect_err("its time is over");

    assert!(error.to_string().contains("was killed by signal"), "{error}");
}

#[rpc_parallel::test]
async fn all_threads_of_a_worker_are_as_nice_as_it_was_asked_to_be() {
    let client = spawn(looking().nice(7)).await;

    let threads = client.threads("stat").await.expect("read them");

    let nice = |stat: &String| -> Option<String> {
        // What stands before is the name in brackets, which may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(16).map(str::to_owned)
    };
    let nice: Vec<_> = threads.iter().filter_map(nice).collect();
    assert!(nice.len() > 1, "{nice:?}");
    assert!(nice.iter().all(|it| it == "7"), "{nice:?}");
}

#[rpc_parallel::test]
async fn a_niceness_that_there_is_not_is_refused() {
    let (tried, why) = refusal(looking().nice(100)).await;

    assert_eq!(tried, "make it as nice as 100");
    assert_eq!(why, "there is nothing beyond 19");
}

#[rpc_parallel::test]
async fn all_threads_of_a_worker_run_on_the_processors_that_were_chosen() {
    let client = spawn(looking().cpus([0])).await;

    let threads = client.threads("status").await.expect("read them");

    let allowed = |it: &String| {
        let line = it.lines().find_map(|it| it.strip_prefix("Cpus_allowed_list:"));
        line.map(|it| it.trim().to_owned())
    };
    let allowed: Vec<_> = threads.iter().filter_map(allowed).collect();
    assert!(allowed.len() > 1, "{allowed:?}");
    assert!(allowed.iter().all(|it| it == "0"), "{allowed:?}");
}

#[rpc_parallel::test]
async fn processors_that_there_are_not_are_named() {
    for (cpus, missing) in [(vec![0, 1000], "1000"), (vec![100_000], "100000")] {
        let (tried, why) = refusal(looking().cpus(cpus.clone())).await;

        assert_eq!(tried, format!("run it on the processors {cpus:?}"));
        assert_eq!(why, format!("there is no processor {missing} for this process"));
    }
    let (tried, why) = refusal(looking().cpus([])).await;
    assert_eq!((tried.as_str(), why.as_str()), NO_PROCESSOR);
}

const NO_PROCESSOR: (&str, &str) =
    ("run it on the processors []", "Invalid argument (os error 22)");

#[rpc_parallel::test]
async fn a_worker_leads_a_session_of_its_own() {
    let session = spawn(looking()).await.session().await.expect("ask it");

    assert_eq!((session.group, session.session), (session.process, session.process));
}

#[rpc_parallel::test]
async fn a_worker_in_the_foreground_stays_in_the_group_of_its_master() {
    let session = spawn(looking().foreground()).await.session().await.expect("ask it");

    let own = Session::here();
    assert_ne!(session.process, own.process);
    assert_eq!((session.group, session.session), (own.group, own.session));
}

/// Presses Ctrl-C at the terminal of a master, and returns what the master says then.
fn interrupt(how: &str) -> Ended {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("make a terminal");
    unlockpt(&terminal).expect("it is ours");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let end = ioctl_tiocgptpeer(&terminal, flags).expect("it is unlocked");
    let mut command = Command::new(env!("CARGO_BIN_EXE_terminal"));
    // What may be ignored here would be there: in the background, for instance.
    command.args(["env", "--default-signal=INT", env!("CARGO_BIN_EXE_interrupted"), how]);

    let master = Program::start_at(&mut command, end);
    assert_eq!(master.line(), "ready");
    rustix::io::write(&terminal, b"\x03").expect("press Ctrl-C");

    master.end()
}

#[test]
fn ctrl_c_at_a_terminal_reaches_the_master_and_not_its_worker() {
    for how in ["own-session", "wrapped"] {
        let ended = interrupt(how);

        assert_eq!(ended.stdout, ["the worker lives"], "{how}: {ended:?}");
    }
}

#[test]
fn ctrl_c_at_a_terminal_reaches_a_worker_in_the_foreground() {
    let ended = interrupt("foreground");

    let [line] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert!(line.contains("was killed by signal 2 (SIGINT)"), "{line}");
}

#[rpc_parallel::test]
async fn an_init_that_takes_too_long_is_ended() {
    let (stdout, pipe) = Redirect::piped().expect("make a pipe");
    let limit = Duration::from_millis(200);
    let spawner = looking().stdout(stdout).init_timeout(limit);

    let error = soon(spawner.spawn(Begin::Blocks)).await.expect_err("it takes too long");

    let text = error.to_string();
    assert!(text.ends_with(": its `init` did not return within 200ms"), "{text}");
    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { within } if *within == limit));
    let pid = BufReader::new(pipe).lines().next_line().await.expect("the pipe works");
    let pid = pid.and_then(|it| it.parse().ok()).expect("it has told its process id");
    assert!(is_gone(pid), "nothing is left of it");
}

#[rpc_parallel::test]
async fn a_started_worker_has_the_same_time_for_its_init() {
    let spawner = looking().stdout(Redirect::null()).init_timeout(Duration::from_millis(200));

    let error = soon(spawner.start(Begin::Blocks)).await.expect_err("it takes too long");

    assert!(matches!(error.kind(), SpawnErrorKind::InitTimedOut { .. }), "{error}");
}

#[rpc_parallel::test]
async fn the_time_for_an_init_does_not_count_what_comes_before_and_after() {
    let never = WrapperLauncher::new("/bin/sh").args(["-c", "exec sleep 1000", "sh"]);
    let limited = looking().launcher(never).init_timeout(Duration::from_secs(1000));

    let spawning = limited.connect_timeout(Duration::from_millis(50)).spawn(Begin::Well);

    let error = soon(spawning).await.expect_err("no worker begins");
    assert!(matches!(error.kind(), SpawnErrorKind::StartupTimedOut { .. }), "{error}");
}

/// Says whether a program can be traced here.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "/bin/true"]).output();
    traced.is_ok_and(|it| it.status.success())
}

/// Starts a worker where the system takes three seconds to start a process, and returns the kind of
/// the error and what is left of it; nothing where this cannot be had.
fn start_slowly(variables: &[(&str, &str)]) -> Option<[String; 2]> {
    if !can_trace() {
        println!("skipped: `strace`, which makes the system slow, does not work here");
        return None;
    }
    let mut command = Command::new("strace");
    // A program that is found on a file system that hangs, so to speak.
    let slow = "--inject=execve:delay_enter=3000000";
    command.args(["-f", "-o", "/dev/null", "-P", "/bin/cat", slow]);
    command.args([env!("CARGO_BIN_EXE_unstartable"), "/bin/cat"]).envs(variables.iter().copied());
    let began = Instant::now();

    let ended = Program::run(&mut command);

    assert!(began.elapsed() > Duration::from_secs(2), "the process was late: {ended:?}");
    let [kind, .., left] = &ended.stdout[..] else { panic!("{ended:?}") };
    Some([kind.clone(), left.clone()])
}

#[test]
fn the_spawn_timeout_counts_the_time_that_the_system_takes_to_start_a_process() {
    let Some([kind, left]) = start_slowly(&[("LIMIT_ALL", "")]) else { return };

    assert_eq!(kind, "TimedOut");
    assert!(left.ends_with("after 0 s"), "{left}");
}

#[test]
fn the_connect_timeout_counts_the_time_that_the_system_takes_to_start_a_process() {
    let Some([kind, left]) = start_slowly(&[]) else { return };

    assert_eq!(kind, "StartupTimedOut");
    assert!(left.ends_with("after 0 s"), "{left}");
}

#[rpc_parallel::test]
async fn names_of_variables_carry_any_bytes_but_two() {
    let name = OsString::from_vec((1..=255).filter(|it| *it != b'=').collect());

    let client = spawn(looking().env(&name, "carried")).await;

    let variables = client.variables().await.expect("ask it");
    assert_eq!(variables.get(&name).map(|it| &**it), Some(OsStr::new("carried")));
}

#[rpc_parallel::test]
async fn variables_that_cannot_be_are_refused_at_once() {
    let mark = "RPC_PARALLEL_WORKER";
    for (spawner, name, expected) in [
        (looking().env("", "b"), "", "its name is empty"),
        (looking().env("A=B", "c"), "A=B", "its name contains `=`"),
        (looking().env("A\0B", "c"), "A\0B", "its name contains a zero byte"),
        (looking().env("A", "b\0c"), "A", "its value contains a zero byte"),
        (looking().env(mark, "1:1"), mark, "it is reserved"),
        (looking().env_remove(mark), mark, "it is reserved"),
        (looking().env_remove("A=B"), "A=B", "its name contains `=`"),
        // A launcher is not even asked.
        (looking().launcher(Unasked).env("", "b"), "", "its name is empty"),
    ] {
        let error = spawner.spawn(Begin::Well).await.expect_err("it is refused");

        let SpawnErrorKind::Environment { variable, why } = error.kind() else { panic!("{error}") };
        assert_eq!((variable.as_str(), why.as_str()), (name, expected));
        let text = format!("cannot change the environment variable `{name}`: {expected}");
        assert!(error.to_string().ends_with(&text), "{error}");
    }
}

/// A launcher that must not be asked.
struct Unasked;

impl rpc_parallel::launch::Launcher for Unasked {
    fn command(&self, worker: &rpc_parallel::launch::WorkerCommand) -> Command {
        panic!("asked to start {worker:?}")
    }
}

#[rpc_parallel::test]
async fn a_variable_that_is_removed_is_not_inherited() {
    let own = std::env::var_os("PATH").expect("every test has it");

    let without = spawn(looking().env_remove("PATH").env("OTHER", "there")).await;
    let with = spawn(looking().env_remove("PATH").env("PATH", "/elsewhere")).await;

    let [without, with] = [without, with].map(|it| it.variables());
    let without = without.await.expect("ask it");
    assert_eq!(without.get(OsStr::new("PATH")), None);
    assert_eq!(without.get(OsStr::new("OTHER")), Some(&OsString::from("there")));
    let with = with.await.expect("ask it");
    assert_ne!(with.get(OsStr::new("PATH")), Some(&own));
    assert_eq!(with.get(OsStr::new("PATH")), Some(&OsString::from("/elsewhere")));
}

#[rpc_parallel::test]
async fn a_cleared_environment_holds_what_was_set_later_and_our_mark() {
    let client = spawn(looking().env("BEFORE", "1").env_clear().env("AFTER", "2")).await;

    let variables = client.variables().await.expect("ask it");
    let mut names: Vec<_> = variables.keys().map(|it| it.to_string_lossy()).collect();
    names.sort();
    assert_eq!(names, ["AFTER", "RPC_PARALLEL_WORKER"]);
}

#[test]
fn what_the_master_inherits_its_workers_inherit() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineage"));
    let master = command.args(["idle", "1"]).env("RUST_LOG", "debug").env("MARKED", "a \u{e4}\t");
    let master = Program::start(master);
    let worker = master.line();
    let worker = worker.strip_prefix("worker ").expect("it tells its process id");

    let environment = fs::read(format!("/proc/{worker}/environ")).expect("it runs");

    let variables: Vec<_> = environment.split(|it| *it == 0).collect();
    for expected in ["RUST_LOG=debug", "RUST_BACKTRACE=0", "MARKED=a \u{e4}\t"] {
        assert!(variables.contains(&expected.as_bytes()), "{expected}");
    }
}

#[rpc_parallel::test]
async fn a_variable_that_is_set_wins_over_the_one_that_is_inherited() {
    let inherited = std::env::var_os("PATH").expect("whoever runs tests has one");

    let set = spawn(looking().env("PATH", "/elsewhere")).await;
    let other = spawn(looking()).await;

    let [set, other] = [set.variables().await, other.variables().await]
        .map(|it| it.expect("call it")[OsStr::new("PATH")].clone());
    assert_eq!(set, "/elsewhere");
    assert_eq!(other, inherited);
}

/// How workers fared where the system had nothing left to give.
fn exhausted(command: &mut Command) -> Vec<String> {
    let ended = Program::run(command);
    assert!(ended.status.success(), "{ended:?}");
    let [lines @ .., before, after] = &ended.stdout[..] else { panic!("{ended:?}") };
    assert_eq!(before, after, "descriptors, threads and children");
    lines.to_vec()
}

#[test]
fn a_master_or_a_worker_without_descriptors_says_so_wherever_it_needs_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhausted"));

    let lines = exhausted(command.arg("descriptors"));

    // The first of thirty has none left, and the last has enough.
    assert!(lines[0].ends_with("cannot make a socket pair: Too many open files (os error 24)"));
    assert_eq!(lines.last().map(String::as_str), Some("alive"));
    let said = lines.iter().filter(|it| it.contains("oo many open files")).count();
    assert!(said > 5, "{lines:#?}");
}

#[test]
fn a_master_that_may_start_no_more_processes_says_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhausted"));
    if rustix::process::geteuid().is_root() {
        // The limit means nothing to root.
        command.uid(65534).gid(65534);
        let open = Command::new(env!("CARGO_BIN_EXE_exhausted")).uid(65534).output();
        if let Err(error) = open {
            println!("skipped: nobody but root can run the program: {error}");
            return;
        }
    }

    let lines = exhausted(command.arg("processes"));

    let [line] = &lines[..] else { panic!("{lines:?}") };
    let expected = "Resource temporarily unavailable (os error 11)";
    assert!(line.contains("cannot start the program `/proc/self/exe`"), "{line}");
    assert!(line.ends_with(expected), "{line}");
}
