//! A program whose `#[entry]` takes a snapshot: `snapshot SCENARIO`.

use std::fs;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rpc_parallel::error::{CallErrorKind, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::{ResourceLimit, Snapshot, SnapshotError};
use rpc_parallel::pool::SpawnPool as _;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::failures::{Failures, KILLED};
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::inspector::{Inspector, descriptors, status};
use rpc_parallel_tests::process::{children, ends, is_gone, kill, resume, state, stop, until};
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::{Action, Script};
use rpc_parallel_tests::waiting::soon;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

#[rpc_parallel::entry(snapshot, worker_logs = true)]
async fn main(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let snapshot = Snapshot::of_entry()?;
    match args.get(1).map_or("", String::as_str) {
        "relatives" => relatives(snapshot).await?,
        "failures" => failures(snapshot).await?,
        "inherited" => inherited(snapshot).await?,
        "attributes" => attributes(snapshot).await?,
        "descriptors" => same_descriptors(snapshot).await?,
        "hash_keys" => hash_keys(snapshot).await?,
        "restart" => restart(snapshot).await?,
        #[cfg(feature = "tracing")]
        "logs" => logs(snapshot).await?,
        "pool" => pool(snapshot).await?,
        "killed" => killed(snapshot).await?,
        "stopped" => stopped(snapshot).await?,
        "masters" => masters(snapshot).await?,
        "refused" => refused(snapshot).await?,
        "many" => many(snapshot).await?,
        "detached" => detached(snapshot).await?,
        "wait" => wait(snapshot).await?,
        other => anyhow::bail!("unknown scenario {other:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the process id of the snapshot process, which is the only child of this one at first.
fn snapshot_pid() -> u32 {
    let children = children().expect("/proc is mounted");
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

async fn relatives(snapshot: Snapshot) -> anyhow::Result<()> {
    let pid = snapshot_pid();
    let heap = snapshot.heap_size();
    assert!((1..10 << 20).contains(&heap), "{snapshot:?}");
    assert_eq!(format!("{snapshot:?}"), format!("Snapshot {{ pid: {pid}, heap_size: {heap} }}"));

    let fixture = Fixture::spawner()
        .launcher(snapshot.clone())
        .name("forked")
        .spawn(Script::default())
        .await?;
    let inspector = Inspector::spawner().launcher(snapshot).spawn(()).await?;

    assert_eq!(fixture.parent_pid().await?, std::process::id());
    assert_eq!(fixture.label().pid(), Some(fixture.pid().await?));
    assert_eq!(fixture.label().name(), Some("forked"));
    assert_eq!(fixture.double(4).await?, 8);
    assert_eq!(inspector.arguments().await?, std::env::args().collect::<Vec<_>>());
    assert_eq!(fixture.proc_file("comm").await?, fs::read_to_string("/proc/self/comm")?);
    let session = |stat: &str| {
        let fields = stat.rsplit_once(") ").map(|it| it.1).unwrap_or_default();
        fields.split(' ').nth(3).map(str::to_owned)
    };
    let own = fixture.proc_file("stat").await?;
    assert_eq!(session(&own), Some(fixture.pid().await?.to_string()));
    let process = format!("/proc/{pid}");
    assert_eq!(session(&fs::read_to_string(format!("{process}/stat"))?), Some(pid.to_string()));
    assert_eq!(fs::read_to_string(format!("{process}/comm"))?, "rpc-snapshot\n");
    assert_eq!(fs::read_link(format!("{process}/fd/0"))?.to_str(), Some("/dev/null"));
    assert_eq!(inspector.descriptors().await?.first().map(String::as_str), Some("/dev/null"));
    Ok(())
}

async fn failures(snapshot: Snapshot) -> anyhow::Result<()> {
    let report = async |action: Action| {
        let failures = Failures::default();
        let spawner = Fixture::spawner().launcher(snapshot.clone());
        let fixture = spawner.on_failure(failures.callback()).spawn(Script::default()).await?;
        let pid = fixture.pid().await?;
        let actions = vec![Action::PrintToStderr("last words".to_owned()), action];
        let error = soon(fixture.run(Action::Sequence(actions))).await;
        error.err().context("the worker ends")?;
        let failure = failures.first().await;
        assert_eq!(failure.worker().pid(), Some(pid));
        assert!(state(pid).is_none(), "it was reaped");
        anyhow::Ok(failure)
    };

    let exited = report(Action::Exit(3)).await?;
    assert_eq!(exited.exit_reason(), ExitReason::Exited(3));
    assert_eq!(exited.stderr(), ["last words"]);
    assert_eq!(report(Action::Signal(9)).await?.exit_reason(), KILLED);
    let aborted = report(Action::Abort).await?;
    assert!(matches!(aborted.exit_reason(), ExitReason::Signaled { signal: 6, .. }), "{aborted}");
    let panicked = report(Action::Sequence(vec![Action::panic().in_task(), Action::Wait])).await?;
    let panic = panicked.panic().context("it has panicked")?;
    assert_eq!(panic.message, "scripted panic");
    assert!(panic.location.is_some());

    let init = Script::init([
        Action::PrintToStderr("in vain".to_owned()),
        Action::Fail("no data".to_owned()),
    ]);
    let error = Fixture::spawner().launcher(snapshot.clone()).spawn(init).await;
    let error = error.err().context("`init` fails")?;
    assert!(error.to_string().contains("no data"), "{error}");
    let init = Script::init([Action::Exit(5)]);
    let error = Fixture::spawner().launcher(snapshot).spawn(init).await;
    let error = error.err().context("`init` exits")?;
    let SpawnErrorKind::Died(failure) = error.kind() else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Exited(5));
    Ok(())
}

/// What the master changes after the snapshot, a worker inherits as if it were executed.
async fn inherited(snapshot: Snapshot) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path().canonicalize()?;
    std::env::set_current_dir(&directory)?;
    umask(Mode::from_raw_mode(0o027));
    let open_files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(333), ..open_files })?;

    let inspector = Inspector::spawner().launcher(snapshot.clone()).spawn(()).await?;
    let executed = Inspector::spawner().spawn(()).await?;

    assert_eq!(inspector.directory().await?, directory);
    assert_eq!(inspector.status("Umask").await?.as_deref(), Some("0027"));
    assert_eq!(inspector.proc_file("limits").await?, executed.proc_file("limits").await?);
    for field in ["SigBlk", "SigCgt", "CapEff", "Cpus_allowed", "NoNewPrivs"] {
        assert_eq!(inspector.status(field).await?, executed.status(field).await?, "{field}");
    }
    let [mut forked, mut executed] =
        [inspector.environment().await?, executed.environment().await?];
    let tokens = [&mut forked, &mut executed].map(|it| it.remove("RPC_PARALLEL_WORKER"));
    assert!(tokens.iter().all(Option::is_some), "{tokens:?}");
    assert_eq!(forked, executed);
    assert_eq!(forked.get("INHERITED").map(String::as_str), Some("by test"));

    std::env::set_current_dir("/")?;
    let inspector = Inspector::spawner().launcher(snapshot).spawn(()).await?;
    assert_eq!(inspector.directory().await?.to_str(), Some("/"));
    Ok(())
}

async fn attributes(snapshot: Snapshot) -> anyhow::Result<()> {
    let output = tempfile::NamedTempFile::new()?;
    let inspector = Inspector::spawner()
        .launcher(snapshot.clone())
        .env("ADDED", "value = 1")
        .env_remove("INHERITED")
        .current_dir("/usr")
        .umask(0o077)
        .limit(ResourceLimit::open_files(123))
        .nice(7)
        .cpus([0])
        .stdout(Redirect::append(output.path()))
        .spawn(())
        .await?;

    let environment = inspector.environment().await?;
    assert_eq!(environment.get("ADDED").map(String::as_str), Some("value = 1"));
    assert_eq!(environment.get("INHERITED"), None);
    assert!(environment.contains_key("PATH"));
    assert_eq!(inspector.directory().await?.to_str(), Some("/usr"));
    assert_eq!(inspector.status("Umask").await?.as_deref(), Some("0077"));
    assert_eq!(inspector.status("Cpus_allowed_list").await?.as_deref(), Some("0"));
    let limits = inspector.proc_file("limits").await?;
    let open_files = limits.lines().find(|it| it.starts_with("Max open files"));
    assert!(open_files.is_some_and(|it| it.contains(" 123 ")), "{limits}");
    let stat = inspector.proc_file("stat").await?;
    assert_eq!(stat.rsplit_once(") ").and_then(|it| it.1.split(' ').nth(16)), Some("7"));

    let cleared = Inspector::spawner().launcher(snapshot.clone()).env_clear().env("ONLY", "1");
    let environment = cleared.spawn(()).await?.environment().await?;
    let names: Vec<_> = environment.keys().map(String::as_str).collect();
    assert_eq!(names, ["ONLY", "RPC_PARALLEL_WORKER"]);

    let large = "x".repeat(100 * 1024);
    let mut spawner = Inspector::spawner().launcher(snapshot.clone());
    for index in 0..10 {
        spawner = spawner.env(format!("LARGE_{index}"), &large);
    }
    let environment = soon(spawner.spawn(())).await?.environment().await?;
    assert_eq!(environment.get("LARGE_9").map(String::len), Some(large.len()));

    let missing = Inspector::spawner().launcher(snapshot.clone()).current_dir("/missing");
    let error = missing.spawn(()).await.err().context("there is no such directory")?;
    assert!(matches!(error.kind(), SpawnErrorKind::CurrentDir { .. }), "{error}");

    let redirected = Fixture::spawner().launcher(snapshot).stdout(Redirect::append(output.path()));
    let fixture = redirected.spawn(Script::default()).await?;
    fixture.run(Action::Print("to a file".to_owned())).await?;
    assert_eq!(fs::read_to_string(output.path())?, "to a file\n");
    Ok(())
}

/// The kinds of descriptors, without the numbers of their inodes.
fn kinds(mut descriptors: Vec<String>) -> Vec<String> {
    for it in &mut descriptors {
        it.truncate(it.find('[').unwrap_or(it.len()));
    }
    descriptors.sort();
    descriptors
}

async fn same_descriptors(snapshot: Snapshot) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let first = Inspector::spawner().launcher(snapshot.clone()).spawn(()).await?;
    let forked = Inspector::spawner().launcher(snapshot).spawn(()).await?;
    let executed = Inspector::spawner().spawn(()).await?;

    let forked = forked.descriptors().await?;

    assert!(file.as_file().as_fd().try_clone_to_owned().is_ok(), "the file is open");
    let others: Vec<_> = descriptors().into_iter().chain(first.descriptors().await?).collect();
    let shared = |it: &&String| it.starts_with("socket:") && others.contains(*it);
    // All processes of a program share one socket for jobs.
    assert!(forked.iter().filter(shared).count() <= 1, "{forked:?} and {others:?}");
    assert_eq!(kinds(forked), kinds(executed.descriptors().await?));
    Ok(())
}

async fn hash_keys(snapshot: Snapshot) -> anyhow::Result<()> {
    let spawner = || Inspector::spawner().launcher(snapshot.clone());
    let [one, other] = [spawner().spawn(()).await?, spawner().spawn(()).await?];

    assert_ne!(one.hash().await?, other.hash().await?);
    Ok(())
}

async fn restart(snapshot: Snapshot) -> anyhow::Result<()> {
    let spawner = Fixture::spawner().launcher(snapshot).restart(RestartPolicy::on_failure());
    let fixture = spawner.spawn(Script::default()).await?;
    let first = fixture.pid().await?;

    kill(first);
    let second = loop {
        match soon(fixture.pid()).await {
            Ok(pid) if pid != first => break pid,
            Ok(_) => {}
            Err(error) => assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}"),
        }
    };

    assert!(state(first).is_none(), "it was reaped");
    assert_eq!(fixture.parent_pid().await?, std::process::id());
    assert_ne!(first, second);
    Ok(())
}

#[rpc_parallel::process]
fn with_parent(number: u32) -> (u32, u32) {
    (2 * number, std::os::unix::process::parent_id())
}

async fn pool(snapshot: Snapshot) -> anyhow::Result<()> {
    let fixtures = Fixture::pool().workers(1).on(snapshot.clone(), 2);
    let fixtures = fixtures.spawn(Script::default()).await?;
    rpc_parallel::pool::configure(|pool| pool.on(snapshot, 2))?;

    let results: Vec<_> = with_parent::map(0..100).collect().await?;
    let mut indices = Vec::new();
    for index in 0..3 {
        indices.push(fixtures.worker(index).await?.worker_index().await?);
    }

    let expected = (0..100).map(|it| (2 * it, std::process::id()));
    assert_eq!(results, expected.collect::<Vec<_>>());
    assert_eq!(indices, [Some(0), Some(1), Some(2)]);
    fixtures.shutdown().await?;
    Ok(())
}

async fn killed(snapshot: Snapshot) -> anyhow::Result<()> {
    let pid = snapshot_pid();
    let fixture = Fixture::spawner().launcher(snapshot.clone()).spawn(Script::default()).await?;

    kill(pid);
    let reaped = until(|| state(pid).is_none().then_some(()));

    assert!(reaped.is_some(), "the snapshot process is no zombie");
    let executed = soon(Fixture::spawner().launcher(snapshot).spawn(Script::default())).await?;
    assert_eq!(executed.parent_pid().await?, std::process::id(), "no function has built data");
    assert_eq!(fixture.double(2).await?, 4, "running workers continue");
    assert_eq!(children()?.len(), 2);
    Ok(())
}

async fn stopped(snapshot: Snapshot) -> anyhow::Result<()> {
    let pid = snapshot_pid();
    stop(pid);
    let spawner = || Fixture::spawner().launcher(snapshot.clone());
    let began = Instant::now();

    let first = spawner().spawn_timeout(Duration::from_millis(200)).spawn(Script::default());
    let second = spawner().connect_timeout(Duration::from_millis(200)).spawn(Script::default());
    let (first, second) = soon(async { tokio::join!(first, second) }).await;
    let executed = soon(Fixture::spawn(Script::default())).await?;

    let error = first.err().context("the snapshot process is stopped")?;
    assert!(matches!(error.kind(), SpawnErrorKind::TimedOut { .. }), "{error}");
    let error = second.err().context("the snapshot process is stopped")?;
    assert!(matches!(error.kind(), SpawnErrorKind::StartupTimedOut { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(executed.double(1).await?, 2);

    resume(pid);
    let forked = soon(spawner().spawn(Script::default())).await?;

    assert_eq!(forked.double(1).await?, 2);
    let running = [pid, executed.pid().await?, forked.pid().await?];
    let rest = until(|| children().ok().filter(|it| it.iter().all(|it| running.contains(it))));
    assert!(rest.is_some(), "workers whose starts were given up are reaped: {:?}", children()?);
    Ok(())
}

#[cfg(feature = "tracing")]
async fn logs(snapshot: Snapshot) -> anyhow::Result<()> {
    use rpc_parallel::logs::LogItem;

    let inspector = Inspector::spawner().launcher(snapshot).name("forked").spawn(()).await?;
    let mut logs = inspector.logs().await?;

    inspector.log("from a fork").await?;

    loop {
        let item = soon(logs.next()).await.context("the worker runs")??;
        if let LogItem::Record(record) = item
            && record.message() == "from a fork"
        {
            return Ok(());
        }
    }
}

async fn masters(snapshot: Snapshot) -> anyhow::Result<()> {
    let inspector = Inspector::spawner().launcher(snapshot.clone()).spawn(()).await?;
    let fixture = Fixture::spawner().launcher(snapshot).spawn(Script::default()).await?;

    let error = inspector.snapshot_error().await?;
    let nested = fixture.start_fixture(Script::default()).await?;

    assert_eq!(error, SnapshotError::NotMaster.to_string());
    let nested = nested.connect(()).await?;
    assert_eq!(nested.parent_pid().await?, fixture.pid().await?);
    let error = Snapshot::warm(|| Ok(())).err().context("a runtime exists")?;
    assert!(matches!(error, SnapshotError::Threads { .. }), "{error}");
    assert!(error.to_string().contains("`rpc-parallel su"), "{error}");
    Ok(())
}

async fn refused(snapshot: Snapshot) -> anyhow::Result<()> {
    let error = Snapshot::warm(|| Ok(())).err().context("a runtime exists")?;
    assert_eq!(error, SnapshotError::Runtime);

    let foreground =
        Fixture::spawner().launcher(snapshot).foreground().spawn(Script::default()).await;

    let error = foreground.err().context("it requires an exec")?;
    assert!(error.to_string().contains("`Spawner::foreground` requires"), "{error}");
    Ok(())
}

async fn many(snapshot: Snapshot) -> anyhow::Result<()> {
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..100 {
        starts.spawn(
            Fixture::spawner().launcher(snapshot.clone()).spawn(Script::default()).into_future(),
        );
    }
    let mut pids = Vec::new();
    let mut clients = Vec::new();
    while let Some(started) = starts.join_next().await {
        let client = started??;
        pids.push(client.pid().await?);
        clients.push(client);
    }
    drop(clients);

    for pid in pids {
        assert!(ends(pid).await, "no worker is left");
    }
    Ok(())
}

async fn detached(snapshot: Snapshot) -> anyhow::Result<()> {
    let snapshot_pid = snapshot_pid();
    let fixture = Fixture::spawner().launcher(snapshot).start_detached(Script::default()).await?;
    let pid = fixture.connect(()).await?.pid().await?;
    print_line(&format!("{pid} {snapshot_pid}"));
    assert!(!is_gone(pid));
    Ok(())
}

async fn wait(snapshot: Snapshot) -> anyhow::Result<()> {
    let pid = snapshot_pid();
    let fixture = Fixture::spawner().launcher(snapshot).start(Script::default()).await?;
    let worker = fixture.connect(()).await?.pid().await?;
    print_line(&format!("{pid} {worker}"));
    assert!(status("Pid").is_some());
    std::future::pending().await
}
