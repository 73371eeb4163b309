//! Settings of a program, of one worker, of one server and of the environment, and which of them
//! each process uses.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use rpc_parallel::Settings;
use rpc_parallel::error::{ConnectErrorKind, SettingsError, SpawnErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{resume, stop};
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_settings");

/// Runs the program with this text in `RPC_PARALLEL_SETTINGS`.
fn run(args: &[&str], environment: Option<&OsStr>) -> ProgramOutput {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_remove("RPC_PARALLEL_SETTINGS");
    Program::run(command.envs(environment.map(|it| ("RPC_PARALLEL_SETTINGS", it))))
}

/// Returns the settings of all parties of the program, and the variable in their environment.
fn run_parties(args: &[&str], environment: Option<&str>) -> (BTreeMap<String, Settings>, String) {
    let output = run(args, environment.map(OsStr::new));
    let (variable, lines) = output.stdout.split_first().unwrap_or_else(|| panic!("{output:?}"));
    let seen = lines.iter().filter_map(|it| it.split_once(": "));
    let seen = seen.map(|(party, it)| {
        (party.to_owned(), it.parse().expect("the settings were printed by this crate"))
    });
    (seen.collect(), variable.clone())
}

fn settings(text: &str) -> Settings {
    text.parse().expect("the settings are valid")
}

/// The parties that have the settings of the program.
const PROGRAM_PARTIES: [&str; 5] =
    ["server", "worker", "worker/server", "worker/worker", "worker/worker/server"];

/// The parties that have the settings of one spawner or one server.
const OVERRIDDEN_PARTIES: [&str; 5] = [
    "other server",
    "other worker",
    "other worker/server",
    "other worker/worker",
    "other worker/worker/server",
];

#[track_caller]
fn assert_seen(seen: &BTreeMap<String, Settings>, program: &str, overridden: &str) {
    for (parties, text) in [(PROGRAM_PARTIES, program), (OVERRIDDEN_PARTIES, overridden)] {
        for party in parties {
            assert_eq!(seen.get(party), Some(&settings(text)), "{party} of {seen:#?}");
        }
    }
    assert_eq!(seen.len(), PROGRAM_PARTIES.len() + OVERRIDDEN_PARTIES.len());
}

#[test]
fn worker_and_server_settings_override_program_settings() {
    let (seen, _) = run_parties(&[], None);

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=1s",
        "max_message_size=3000,handshake_timeout=3s",
    );
}

#[test]
fn environment_overrides_fields_for_all_parties() {
    let (seen, _) = run_parties(&[], Some("handshake_timeout=2s"));

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=2s",
        "max_message_size=3000,handshake_timeout=2s",
    );
}

#[test]
fn environment_can_set_every_field() {
    let all = "max_message_size=64KiB,stream_window=1MiB,connection_window=2MiB,max_calls=7,\
               max_one_way_calls=8,max_pipes=9,heartbeat_interval=250ms,\
               heartbeat_timeout=never,handshake_timeout=1m,max_depth=9,kept_job_results=2MiB,\
               busy_poll=50us,other_builds=true";

    let (seen, _) = run_parties(&[], Some(all));

    assert_seen(&seen, all, all);
}

#[test]
fn environment_can_lower_program_setting() {
    let (seen, _) = run_parties(&[], Some("max_message_size=2000"));

    // The program sets 1500 for itself, and 3000 for one worker and one server.
    assert_seen(
        &seen,
        "max_message_size=2000,handshake_timeout=1s",
        "max_message_size=2000,handshake_timeout=3s",
    );
}

#[test]
fn empty_environment_variable_changes_nothing() {
    let (seen, _) = run_parties(&[], Some(""));

    assert_seen(
        &seen,
        "max_message_size=1500,handshake_timeout=1s",
        "max_message_size=3000,handshake_timeout=3s",
    );
}

#[test]
fn workers_ignore_settings_in_their_environment() {
    for variable_of_workers in ["handshake_timeout=9s", "nonsense"] {
        let script = format!("RPC_PARALLEL_SETTINGS={variable_of_workers} exec \"$0\" worker");

        let (seen, variable) = run_parties(&["shell", &script], Some("handshake_timeout=2s"));

        assert_eq!(variable, variable_of_workers, "workers have the variable in their environment");
        assert_seen(
            &seen,
            "max_message_size=1500,handshake_timeout=2s",
            "max_message_size=3000,handshake_timeout=2s",
        );
    }
}

#[test]
fn invalid_environment_stops_program_with_reason() {
    let begin = "failed to read the environment variable `RPC_PARALLEL_SETTINGS`: ";
    let sizes = "a size from 1KiB to 4095MiB, such as `1500`, `64KiB`, `100MiB` or `1GiB`";
    let times = "a duration from 10ms to 8760h, such as `250ms`, `2s`, `1m` or `1h`";
    let fields = "`max_message_size`, `stream_window`, `connection_window`, `max_calls`, \
                  `max_one_way_calls`, `max_pipes`, `heartbeat_interval`, `heartbeat_timeout`, \
                  `handshake_timeout`, `max_depth`, `kept_job_results`, `busy_poll`, \
                  `other_builds`";
    let invalid = |field: &str, expected: &str, found: &str| {
        format!("invalid setting `{field}`: expected {expected}, found `{found}`")
    };
    for (text, why) in [
        (&b"max_message_size=12X"[..], invalid("max_message_size", sizes, "12X")),
        (b"max_message_size=1000", invalid("max_message_size", sizes, "1000")),
        (b"handshake_timeout=never", invalid("handshake_timeout", times, "never")),
        (b"max_size=1500", format!("unknown setting `max_size`: expected one of {fields}")),
        (b"stream_window=\xff", "invalid setting `stream_window`: expected a size".to_owned()),
    ] {
        let output = run(&[], Some(OsStr::from_bytes(text)));

        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        assert!(output.stderr.contains(&format!("{begin}{why}")), "{output:?}");
    }
}

#[test]
fn entry_attribute_reads_environment() {
    // The entry sets `max_message_size` to 5000.
    let run = |text| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_async_main"));
        Program::run(command.env("RPC_PARALLEL_SETTINGS", text))
    };

    let valid = run("max_message_size=6000");
    let invalid = run("max_message_size=6k");

    let line = valid.stdout.last().expect("the program prints lines");
    assert!(line.contains("message of 6004 bytes exceeds the limit of 6000 bytes"), "{valid:?}");
    assert_eq!((invalid.status.code(), invalid.stdout.len()), (Some(2), 0), "{invalid:?}");
    let sentence = "rpc-parallel: failed to start the program: failed to read the environment \
                    variable `RPC_PARALLEL_SETTINGS`: invalid setting `max_message_size`: expected \
                    a size from 1KiB to";
    assert!(invalid.stderr.starts_with(sentence), "{invalid:?}");
    assert_eq!(invalid.stderr.lines().count(), 1, "{invalid:?}");
}

#[rpc_parallel::worker]
trait SettingsProbe {
    fn settings_of(&self, worker: &Worker<ProbeWorker>) -> Settings;
    /// Connects to a worker, and returns the error.
    async fn fail_to_connect(&self, worker: &Worker<ProbeWorker>) -> Option<String>;
    fn mode(&self, connection: &Context<ConnectionMode>) -> ConnectionMode;
    /// Ends the `init` of a connection that waits for release.
    fn release(&self);
}

#[derive(Default, WorkerState)]
struct ProbeWorker {
    released: Notify,
}

/// What the `init` of a connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum ConnectionMode {
    Ready,
    WaitForRelease,
}

impl ConnectionState<ProbeWorker> for ConnectionMode {
    type Init = ConnectionMode;

    async fn init(worker: &ProbeWorker, mode: ConnectionMode) -> Result<Self, BoxError> {
        if mode == ConnectionMode::WaitForRelease {
            worker.released.notified().await;
        }
        Ok(mode)
    }
}

#[rpc_parallel::worker]
impl SettingsProbe for ProbeWorker {
    fn settings_of(&self, worker: &Worker<ProbeWorker>) -> Settings {
        worker.settings()
    }

    async fn fail_to_connect(&self, worker: &Worker<ProbeWorker>) -> Option<String> {
        worker.connect(ConnectionMode::Ready).await.err().map(|it| it.to_string())
    }

    fn mode(&self, connection: &Context<ConnectionMode>) -> ConnectionMode {
        *connection.state()
    }

    fn release(&self) {
        self.released.notify_one();
    }
}

/// The settings of all tests of this executable.
fn test_settings() -> Result<Settings, SettingsError> {
    Ok(Settings::default().with_heartbeat_timeout(None))
}

#[rpc_parallel::test(settings = test_settings())]
async fn spawner_refuses_settings_variable() {
    let spawner = ProbeWorker::spawner().env("RPC_PARALLEL_SETTINGS", "max_message_size=1500");

    let error = spawner.start(()).await.expect_err("the variable is refused");

    let SpawnErrorKind::Environment { variable, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(variable, "RPC_PARALLEL_SETTINGS");
    assert!(error.to_string().contains("use `Spawner::settings`"), "{error}");
}

#[tokio::test]
async fn plain_test_uses_settings_of_registered_tests() {
    let worker = ProbeWorker::start_ok(()).await;
    let server = ProbeWorker::serve(()).await.expect("the server starts");

    assert_eq!(Ok(worker.settings()), test_settings());
    assert_eq!(Ok(server.settings()), test_settings());
}

#[rpc_parallel::test(settings = test_settings())]
async fn handle_carries_settings_of_its_worker() {
    let client = ProbeWorker::spawner()
        .spawn_with((), ConnectionMode::Ready)
        .await
        .expect("the worker starts");
    let other = settings("stream_window=1KiB,heartbeat_timeout=1m,handshake_timeout=2s");
    let worker = ProbeWorker::spawner().settings(other).start_ok(()).await;
    let server = ProbeWorker::server()
        .name("here")
        .settings(other)
        .serve(())
        .await
        .expect("the server starts");

    assert_eq!(client.settings_of(&worker).await, Ok(other));
    assert_eq!(client.settings_of(&server).await, Ok(other));
    assert_eq!(worker.address().map(|it| it.settings()).expect("the worker has a listener"), other);
    assert_eq!(server.name(), Some("here"));
    let here = ProbeWorker::serve(()).await.expect("the server starts").settings();
    assert_eq!(here.heartbeat_timeout(), None, "the settings of the test apply");
    assert_eq!(here.handshake_timeout(), Duration::from_secs(30));
}

/// The handshake timeout of workers that tests make unresponsive.
const LIMIT: Duration = Duration::from_secs(1);

async fn start_with_handshake_timeout() -> Worker<ProbeWorker> {
    let settings = Settings::default().with_handshake_timeout(LIMIT);
    ProbeWorker::spawner().settings(settings).start_ok(()).await
}

#[rpc_parallel::test(settings = test_settings())]
async fn connecting_to_stopped_worker_times_out() {
    let worker = start_with_handshake_timeout().await;
    let other = ProbeWorker::spawner()
        .spawn_with((), ConnectionMode::Ready)
        .await
        .expect("the worker starts");
    assert_eq!(other.fail_to_connect(&worker).await, Ok(None));
    let pid = worker.label().pid().expect("the worker runs on this host");
    stop(pid);

    let began = Instant::now();
    let error = soon(worker.connect(ConnectionMode::Ready))
        .await
        .map(drop)
        .expect_err("the worker is stopped");
    let took = began.elapsed();
    let from_other_worker =
        soon(other.fail_to_connect(&worker)).await.expect("the other worker runs");

    let ConnectErrorKind::TimedOut { within } = error.kind() else { panic!("{error}") };
    assert_eq!(*within, LIMIT);
    assert!(took >= LIMIT, "{took:?}");
    let error = from_other_worker.expect("the worker is stopped");
    assert!(error.contains("no answer within 1s (`handshake_timeout` of its settings)"), "{error}");
    resume(pid);
    let client = soon(worker.connect(ConnectionMode::Ready)).await.expect("the worker continues");
    assert_eq!(client.mode().await, Ok(ConnectionMode::Ready));
}

#[rpc_parallel::test(settings = test_settings())]
async fn connection_init_can_exceed_handshake_timeout() {
    let worker = start_with_handshake_timeout().await;
    let client = worker.connect(ConnectionMode::Ready).await.expect("`init` returns at once");

    let mut waiting = pin!(worker.connect(ConnectionMode::WaitForRelease));
    let early = timeout(2 * LIMIT, &mut waiting).await;
    assert!(early.is_err(), "`init` waits for the release");
    client.release().await.expect("the worker answers");

    let waited = soon(waiting).await.expect("the connection was accepted");
    assert_eq!(waited.mode().await, Ok(ConnectionMode::WaitForRelease));
}
