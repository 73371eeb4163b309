//! Settings: said by the program, for one worker, for one server and by the environment, and seen
//! by everybody alike.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::Settings;
use rpc_parallel::error::{ConnectErrorKind, SettingsError, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::{Ended, Program};
use rpc_parallel_tests::waiting::soon;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_settings");

/// Runs the program, with these settings in its environment.
fn run(args: &[&str], environment: Option<&OsStr>) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("RPC_PARALLEL_SETTINGS");
    Program::run(command.envs(environment.map(|it| ("RPC_PARALLEL_SETTINGS", it))))
}

/// What the parties of the program see, and the variable that its workers find.
fn look(args: &[&str], environment: Option<&str>) -> (BTreeMap<String, Settings>, String) {
    let ended = run(args, environment.map(OsStr::new));
    let (variable, lines) = ended.stdout.split_first().unwrap_or_else(|| panic!("{ended:?}"));
    let seen = lines.iter().filter_map(|it| it.split_once(": "));
    let seen = seen.map(|(who, it)| (who.to_owned(), it.parse().expect("it was printed by us")));
    (seen.collect(), variable.clone())
}

fn settings(text: &str) -> Settings {
    text.parse().expect("they are right")
}

/// Everybody whose settings are those of the program.
const ALIKE: [&str; 5] =
    ["server", "worker", "worker/server", "worker/worker", "worker/worker/server"];

/// Everybody whose settings are those that one spawn or one server was given.
const OTHERS: [&str; 5] = [
    "other server",
    "other worker",
    "other worker/server",
    "other worker/worker",
    "other worker/worker/server",
];

#[track_caller]
fn assert_seen(seen: &BTreeMap<String, Settings>, alike: &str, others: &str) {
    for (parties, text) in [(ALIKE, alike), (OTHERS, others)] {
        for party in parties {
            assert_eq!(seen.get(party), Some(&settings(text)), "{party} of {seen:#?}");
        }
    }
    assert_eq!(seen.len(), ALIKE.len() + OTHERS.len());
}

#[test]
fn the_settings_of_a_program_hold_but_where_a_worker_or_a_server_has_its_own() {
    let (seen, _) = look(&[], None);

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=1s",
        "max_message_size=3000,handshake_timeout=3s",
    );
}

#[test]
fn the_environment_wins_field_by_field_and_everybody_sees_the_same() {
    let (seen, _) = look(&[], Some("handshake_timeout=2s"));

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=2s",
        "max_message_size=3000,handshake_timeout=2s",
    );
}

#[test]
fn the_environment_may_set_everything() {
    let all = "max_message_size=64KiB,stream_window=1MiB,heartbeat_interval=250ms,\
               heartbeat_timeout=never,handshake_timeout=1m,max_depth=9,other_builds=true";

    let (seen, _) = look(&[], Some(all));

    assert_seen(&seen, all, all);
}

#[test]
fn the_environment_may_take_away_from_what_the_program_says() {
    let (seen, _) = look(&[], Some("max_message_size=2000"));

    // The program says 1500 for itself, and 3000 for the others.
    assert_seen(
        &seen,
        "max_message_size=2000,handshake_timeout=1s",
        "max_message_size=2000,handshake_timeout=3s",
    );
}

#[test]
fn an_environment_that_sets_nothing_changes_nothing() {
    let (seen, _) = look(&[], Some(""));

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=1s",
        "max_message_size=3000,handshake_timeout=3s",
    );
}

#[test]
fn workers_inherit_what_their_master_has_read_and_do_not_read_it_again() {
    for theirs in ["handshake_timeout=9s", "nonsense"] {
        let script = format!("RPC_PARALLEL_SETTINGS={theirs} exec \"$0\" worker");

        let (seen, variable) = look(&["shell", &script], Some("handshake_timeout=2s"));

        assert_eq!(variable, theirs, "the workers have it in their environment");
        assert_seen(
            &seen,
            "max_message_size=1500,handshake_timeout=2s",
            "max_message_size=3000,handshake_timeout=2s",
        );
    }
}

#[test]
fn what_is_wrong_in_the_environment_stops_the_program_in_one_sentence() {
    let begin = "the environment variable `RPC_PARALLEL_SETTINGS` cannot be used: ";
    let sizes = "must be a size from 1KiB to 4095MiB, like `1500`, `64KiB`, `100MiB` or `1GiB`";
    let times = "must be a time from 10ms to 8760h, like `250ms`, `2s`, `1m` or `1h`";
    let fields = "`max_message_size`, `stream_window`, `heartbeat_interval`, `heartbeat_timeout`, \
                  `handshake_timeout`, `max_depth`, `other_builds`";
    for (text, why) in [
        (&b"max_message_size=12X"[..], format!("`max_message_size` is `12X`, and {sizes}")),
        (b"max_message_size=1000", format!("`max_message_size` is `1000`, and {sizes}")),
        (b"handshake_timeout=never", format!("`handshake_timeout` is `never`, and {times}")),
        (b"max_size=1500", format!("`max_size` is no setting; there are {fields}")),
        (b"stream_window=\xff", "`stream_window` is `\u{fffd}`, and must be a size".to_owned()),
    ] {
        let ended = run(&[], Some(OsStr::from_bytes(text)));

        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{begin}{why}")), "{ended:?}");
    }
}

#[test]
fn an_entry_reads_the_environment_too() {
    // Its `max_message_size` is 5000.
    let run = |text| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_async_main"));
        Program::run(command.env("RPC_PARALLEL_SETTINGS", text))
    };

    let well = run("max_message_size=6000");
    let wrong = run("max_message_size=6k");

    let told = well.stdout.last().expect("it prints lines");
    assert!(told.contains("message of 6004 bytes exceeds the limit of 6000 bytes"), "{well:?}");
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0), "{wrong:?}");
    let sentence = "rpc-parallel: cannot begin: the environment variable `RPC_PARALLEL_SETTINGS` \
                    cannot be used: `max_message_size` is `6k`, and must be a size from 1KiB to";
    assert!(wrong.stderr.starts_with(sentence), "{wrong:?}");
    assert_eq!(wrong.stderr.lines().count(), 1, "{wrong:?}");
}

#[rpc_parallel::worker]
trait Waits {
    fn settings_of(&self, worker: &Worker<Waiter>) -> Settings;
    /// Connects to a worker, and returns why it cannot.
    async fn fail_to_connect(&self, worker: &Worker<Waiter>) -> Option<String>;
    fn patience(&self, connection: &Context<Patience>) -> Patience;
    /// Has connections begin that wait for it.
    fn release(&self);
}

#[derive(Default, WorkerState)]
struct Waiter {
    released: Notify,
}

/// What the `init` of a connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Patience {
    Ready,
    WaitsForRelease,
}

impl ConnectionState<Waiter> for Patience {
    type Init = Patience;

    async fn init(waiter: &Waiter, patience: Patience) -> Result<Self, BoxError> {
        if patience == Patience::WaitsForRelease {
            waiter.released.notified().await;
        }
        Ok(patience)
    }
}

#[rpc_parallel::worker]
impl Waits for Waiter {
    fn settings_of(&self, worker: &Worker<Waiter>) -> Settings {
        worker.settings()
    }

    async fn fail_to_connect(&self, worker: &Worker<Waiter>) -> Option<String> {
        worker.connect(Patience::Ready).await.err().map(|it| it.to_string())
    }

    fn patience(&self, connection: &Context<Patience>) -> Patience {
        *connection.state()
    }

    fn release(&self) {
        self.released.notify_one();
    }
}

/// What this test binary says.
fn said() -> Result<Settings, SettingsError> {
    Settings::default().with_heartbeat_timeout(None)
}

#[rpc_parallel::test(settings = said())]
async fn a_spawner_sets_no_settings_by_the_environment() {
    let spawner = Waiter::spawner().env("RPC_PARALLEL_SETTINGS", "max_message_size=1500");

    let error = spawner.start(()).await.expect_err("it would mean nothing");

    let SpawnErrorKind::Environment { variable, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(variable, "RPC_PARALLEL_SETTINGS");
    assert!(error.to_string().contains("use `Spawner::settings`"), "{error}");
}

#[tokio::test]
async fn plain_test_has_the_settings_of_the_registered_tests() {
    let worker = Waiter::spawner().start(()).await.expect("start a worker");
    let server = Waiter::serve(()).await.expect("serve it");

    assert_eq!(Ok(worker.settings()), said());
    assert_eq!(Ok(server.settings()), said());
}

#[rpc_parallel::test(settings = said())]
async fn a_handle_brings_its_settings_wherever_it_goes() {
    let client = Waiter::spawner().spawn_with((), Patience::Ready).await.expect("start a worker");
    let other = settings("stream_window=1KiB,heartbeat_timeout=1m,handshake_timeout=2s");
    let worker = Waiter::spawner().settings(other).start(()).await.expect("start a worker");
    let server = Waiter::server().name("here").settings(other).serve(()).await.expect("serve it");

    assert_eq!(client.settings_of(&worker).await, Ok(other));
    assert_eq!(client.settings_of(&server).await, Ok(other));
    assert_eq!(worker.address().map(|it| it.settings()).expect("it listens"), other);
    assert_eq!(server.name(), Some("here"));
    let here = Waiter::serve(()).await.expect("serve it").settings();
    assert_eq!(here.heartbeat_timeout(), None, "what the test says holds in it");
    assert_eq!(here.handshake_timeout(), Duration::from_secs(30));
}

/// How long a handshake may take where the tests wait for it.
const LIMIT: Duration = Duration::from_secs(1);

async fn impatient() -> Worker<Waiter> {
    let settings = Settings::default().with_handshake_timeout(LIMIT).expect("it is allowed");
    Waiter::spawner().settings(settings).start(()).await.expect("start a worker")
}

fn signal(worker: &Worker<Waiter>, signal: Signal) {
    let pid = worker.label().pid().and_then(|it| Pid::from_raw(it.cast_signed()));
    kill_process(pid.expect("a worker is a process"), signal).expect("it is there");
}

#[rpc_parallel::test(settings = said())]
async fn who_connects_to_a_stopped_worker_is_told_in_time() {
    let worker = impatient().await;
    let other = Waiter::spawner().spawn_with((), Patience::Ready).await.expect("start a worker");
    assert_eq!(other.fail_to_connect(&worker).await, Ok(None));
    signal(&worker, Signal::STOP);

    let began = Instant::now();
    let error = soon(worker.connect(Patience::Ready)).await.map(drop).expect_err("it is stopped");
    let took = began.elapsed();
    let from_elsewhere = soon(other.fail_to_connect(&worker)).await.expect("the other one runs");

    let ConnectErrorKind::TimedOut { within } = error.kind() else { panic!("{error}") };
    assert_eq!(*within, LIMIT);
    assert!(took >= LIMIT, "{took:?}");
    let told = from_elsewhere.expect("it is stopped");
    assert!(told.contains("it took no notice within 1s (its `handshake_timeout`)"), "{told}");
    signal(&worker, Signal::CONT);
    let client = soon(worker.connect(Patience::Ready)).await.expect("it goes on");
    assert_eq!(client.patience().await, Ok(Patience::Ready));
}

#[rpc_parallel::test(settings = said())]
async fn the_init_of_a_connection_may_take_longer_than_the_handshake() {
    let worker = impatient().await;
    let client = worker.connect(Patience::Ready).await.expect("it is ready at once");

    let mut waiting = pin!(worker.connect(Patience::WaitsForRelease));
    let early = timeout(2 * LIMIT, &mut waiting).await;
    assert!(early.is_err(), "it waits for its release, and nothing ends that");
    client.release().await.expect("it is alive");

    let waited = soon(waiting).await.expect("it was heard");
    assert_eq!(waited.patience().await, Ok(Patience::WaitsForRelease));
}
