//! A program whose `#[entry]` takes a snapshot after a function: `entry_snapshot SCENARIO`.

use std::env;
use std::process;

use anyhow::Context as _;
use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::launch::{Exec, Snapshot, SnapshotError};
use rpc_parallel::prelude::*;
use rpc_parallel::process::RunError;
use rpc_parallel_tests::inspector::{Inspector, TABLE};
use rpc_parallel_tests::process::{children, kill, state, until};
use rpc_parallel_tests::waiting::soon;

/// Returns an element of the table, and the parent of the process.
#[rpc_parallel::process]
fn element(index: usize) -> (Option<u64>, u32) {
    let element = TABLE.get().and_then(|it| it.get(index).copied());
    (element, std::os::unix::process::parent_id())
}

/// Returns what a process function gets that runs in a process of a process function.
#[rpc_parallel::process]
async fn nested(index: usize) -> Result<(Option<u64>, u32), AnyError> {
    Ok(element::run(index).await?)
}

fn scenario() -> String {
    env::args().nth(1).unwrap_or_default()
}

fn build() -> anyhow::Result<()> {
    anyhow::ensure!(scenario() != "fail", "no table");
    TABLE.set(vec![5]).expect("it was not built before");
    Ok(())
}

#[rpc_parallel::entry(snapshot = build)]
async fn main() -> anyhow::Result<()> {
    match &*scenario() {
        "use" => use_table().await,
        "process" => run_processes().await,
        "fail" => fail().await,
        "kill" => kill_snapshot().await,
        other => anyhow::bail!("unknown scenario {other:?}"),
    }
}

async fn use_table() -> anyhow::Result<()> {
    let inspector = Inspector::spawner().launcher(Snapshot::of_entry()?).spawn(()).await?;

    assert_eq!(inspector.table(0).await?, Some(5));
    Ok(())
}

async fn run_processes() -> anyhow::Result<()> {
    let forked = (Some(5), process::id());

    assert_eq!(soon(element::run(0)).await?, forked);
    let reused = soon(element::reuse()).await?;
    assert_eq!(reused.call(0).await?, forked);
    assert_eq!(reused.call(1).await?, (None, process::id()));
    let job = soon(element::start(0)).await?;
    assert_eq!(soon(job.join()).await?, forked);
    let mut mapped = element::map(vec![0; 100]);
    while let Some(result) = soon(mapped.next()).await {
        assert_eq!(result?, forked, "a map runs in the pool of the program");
    }

    let executed = soon(element::run(0).spawner(|it| it.launcher(Exec))).await?;
    assert_eq!(executed, (None, process::id()));
    let (element, parent) = soon(nested::run(0)).await?;
    assert_eq!(element, None, "a forked process executes its workers");
    assert_ne!(parent, process::id());
    Ok(())
}

async fn fail() -> anyhow::Result<()> {
    let failed = SnapshotError::Failed { why: "no table".to_owned() };
    assert_eq!(Snapshot::of_entry().err(), Some(failed.clone()));

    let error = soon(element::run(0)).await.err().context("there is no table")?;

    let RunError::Spawn(spawn_error) = &error else { panic!("{error}") };
    assert!(spawn_error.to_string().contains(&failed.to_string()), "{error}");
    let error = soon(element::start(0)).await.err().context("there is no table")?;
    assert!(error.to_string().contains(&failed.to_string()), "{error}");
    let mut mapped = element::map(vec![0; 3]);
    let error = soon(mapped.next()).await.context("an item")?.err().context("no table")?;
    assert!(format!("{error:?}").contains(&failed.to_string()), "{error:?}");
    assert_eq!(soon(element::run(0).spawner(|it| it.launcher(Exec))).await?.0, None);
    Ok(())
}

async fn kill_snapshot() -> anyhow::Result<()> {
    let [pid] = children()?[..] else { anyhow::bail!("one snapshot process runs") };
    let spawner = || Snapshot::of_entry().map(|it| Inspector::spawner().launcher(it));
    let inspector = spawner()?.spawn(()).await?;

    kill(pid);
    let reaped = until(|| state(pid).is_none().then_some(()));

    assert!(reaped.is_some(), "the snapshot process is no zombie");
    let error = soon(spawner()?.spawn(())).await.err().context("the snapshot was killed")?;
    assert!(matches!(error.kind(), SpawnErrorKind::Process { .. }), "{error:?}");
    let text = format!("the snapshot process {pid} was killed by signal 9 (SIGKILL)");
    assert!(error.to_string().contains(&text), "{error}");
    assert_eq!(inspector.table(0).await?, Some(5), "running workers continue");
    assert_eq!(children()?.len(), 1);
    Ok(())
}
