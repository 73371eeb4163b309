//! A `main` that is not async and takes snapshots: `warm_snapshot SCENARIO`.

use std::process::ExitCode;
use std::sync::{OnceLock, mpsc};
use std::thread;

use anyhow::Context as _;
use rpc_parallel::error::ExitReason;
use rpc_parallel::launch::{SealedSlice, Snapshot, SnapshotError};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::inspector::{Inspector, SEALED, TABLE, hash};
use rpc_parallel_tests::process::{children, state, until};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

#[rpc_parallel::entry]
fn main(args: Vec<String>) -> anyhow::Result<ExitCode> {
    match args.get(1).map_or("", String::as_str) {
        "shared" => shared()?,
        "hash_keys" => hash_keys()?,
        "dropped" => dropped()?,
        "failing" => failing()?,
        "threads" => threads()?,
        "signals" => signals()?,
        "after_runtime" => after_runtime()?,
        "memory" => memory()?,
        "of_entry" => of_entry()?,
        other => anyhow::bail!("unknown scenario {other:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("make a runtime")
}

/// Takes a snapshot in which [`TABLE`] and [`SEALED`] hold this number.
fn snapshot_with(number: u64) -> Result<Snapshot, SnapshotError> {
    Snapshot::warm(move || {
        TABLE.set(vec![number]).map_err(|_| "it was built before")?;
        SEALED.set(SealedSlice::copy_of(&[number])?).map_err(|_| "it was built before")?;
        Ok(())
    })
}

fn shared() -> anyhow::Result<()> {
    let snapshots = [snapshot_with(3)?, snapshot_with(7)?];

    let tables = runtime().block_on(async {
        let mut tables = Vec::new();
        for snapshot in &snapshots {
            for _ in 0..2 {
                let inspector = Inspector::spawner().launcher(snapshot.clone()).spawn(()).await?;
                tables.push([inspector.table(0).await?, inspector.sealed(0).await?]);
            }
        }
        let executed = Inspector::spawn(()).await?;
        tables.push([executed.table(0).await?, executed.sealed(0).await?]);
        anyhow::Ok(tables)
    })?;

    let [three, seven] = [[Some(3); 2], [Some(7); 2]];
    assert_eq!(tables, [three, three, seven, seven, [None; 2]]);
    assert_eq!(TABLE.get(), None, "the master is not changed");
    Ok(())
}

fn hash_keys() -> anyhow::Result<()> {
    let snapshot = Snapshot::warm(|| {
        let _ = hash();
        Ok(())
    })?;

    let hashes = runtime().block_on(async {
        let spawner = || Inspector::spawner().launcher(snapshot.clone());
        let [one, other] = [spawner().spawn(()).await?, spawner().spawn(()).await?];
        anyhow::Ok([one.hash().await?, other.hash().await?])
    })?;

    assert_ne!(hashes[0], hashes[1]);
    Ok(())
}

fn dropped() -> anyhow::Result<()> {
    let before_runtime = snapshot_with(1)?;
    let [pid] = children()?[..] else { anyhow::bail!("one snapshot process runs") };
    drop(before_runtime.clone());
    assert!(state(pid).is_some(), "a clone is left");
    drop(before_runtime);
    assert_eq!(state(pid), None);

    let snapshot = snapshot_with(2)?;
    let [pid] = children()?[..] else { anyhow::bail!("one snapshot process runs") };
    runtime().block_on(async {
        let inspector = Inspector::spawner().launcher(snapshot).spawn(()).await?;
        let reaped = until(|| state(pid).is_none().then_some(()));
        assert!(reaped.is_some(), "the spawner held the last clone");
        assert_eq!(inspector.table(0).await?, Some(2));
        anyhow::Ok(())
    })
}

fn failing() -> anyhow::Result<()> {
    let failed = Snapshot::warm(|| Err(anyhow::anyhow!("no file").context("no table").into()));
    let error = failed.err().context("the function fails")?;
    assert_eq!(error.to_string(), "the function of the snapshot has failed: no table: no file");

    let panicked = Snapshot::warm(|| panic!("no luck"));
    let error = panicked.err().context("the function panics")?;
    let SnapshotError::Panicked(panic) = &error else { panic!("{error}") };
    assert_eq!(panic.message, "no luck");
    assert!(error.to_string().contains("no luck"), "{error}");

    let exited = Snapshot::warm(|| std::process::exit(3));
    assert_eq!(exited.err(), Some(SnapshotError::Ended(ExitReason::Exited(3))));

    let left_thread = Snapshot::warm(|| {
        thread::Builder::new().name("left behind".to_owned()).spawn(|| {
            loop {
                thread::park();
            }
        })?;
        Ok(())
    });
    let error = left_thread.err().context("a thread is left")?;
    assert!(matches!(error, SnapshotError::Unforkable { .. }), "{error}");
    assert!(error.to_string().contains("`left behind`"), "{error}");

    let left_runtime = Snapshot::warm(|| {
        std::mem::forget(runtime());
        Ok(())
    });
    let error = left_runtime.err().context("a runtime is left")?;
    assert!(matches!(error, SnapshotError::Unforkable { .. }), "{error}");

    let unsealed = SealedSlice::<u8>::builder(1)?;
    assert_eq!(snapshot_with(1).err(), Some(SnapshotError::SharedMemory));
    drop(unsealed);
    assert_eq!(children()?, [0; 0], "no process is left");
    let _snapshot = snapshot_with(1)?;
    Ok(())
}

fn threads() -> anyhow::Result<()> {
    let (stop, stopped) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let thread = thread::Builder::new().name("my thread".to_owned());
    let thread = thread.spawn(move || started.send(()).is_ok() && stopped.recv().is_err())?;
    has_started.recv()?;

    let error = snapshot_with(1).err().context("a thread runs")?;
    drop(stop);

    assert!(matches!(error, SnapshotError::Threads { .. }), "{error}");
    assert!(error.to_string().contains("1 other thread: `my thread` ("), "{error}");
    assert!(thread.join().is_ok());
    Ok(())
}

/// Handlers that the function has installed do not exist in workers.
fn signals() -> anyhow::Result<()> {
    let snapshot = Snapshot::warm(|| {
        Ok(runtime().block_on(async { signal(SignalKind::user_defined1()).map(drop) })?)
    })?;

    let [forked, executed] = runtime().block_on(async {
        let forked = Inspector::spawner().launcher(snapshot).spawn(()).await?;
        let executed = Inspector::spawn(()).await?;
        anyhow::Ok([forked.status("SigCgt").await?, executed.status("SigCgt").await?])
    })?;

    assert_eq!(forked, executed);
    Ok(())
}

/// A runtime leaves a socket behind, which workers must not share with the master.
fn after_runtime() -> anyhow::Result<()> {
    drop(runtime());

    let error = snapshot_with(1).err().context("a runtime has existed")?;

    assert!(matches!(error, SnapshotError::Unforkable { .. }), "{error}");
    assert!(error.to_string().contains("a tokio runtime has existed before"), "{error}");
    assert_eq!(children()?, [0; 0], "no process is left");
    Ok(())
}

/// Data of the snapshot is resident in a worker that reads it, and not private.
fn memory() -> anyhow::Result<()> {
    const LEN: usize = 32 << 20;
    let snapshot = Snapshot::warm(|| Ok(BYTES.set(vec![1; LEN]).map_err(|_| "built before")?))?;
    assert!((LEN as u64..2 * LEN as u64).contains(&snapshot.heap_size()), "{snapshot:?}");

    let stats = runtime().block_on(async {
        let reader = Reader::spawner().launcher(snapshot.clone()).spawn(()).await?;
        let before = reader.stats().await?;
        assert_eq!(reader.sum().await?, LEN as u64);
        anyhow::Ok((before, reader.stats().await?))
    })?;

    let (before, after) = stats;
    assert!(after.resident_memory() > LEN as u64, "{after}");
    let more = after.private_memory().saturating_sub(before.private_memory());
    assert!((1..LEN as u64 / 8).contains(&before.private_memory()), "{before}");
    assert!(more < LEN as u64 / 8, "{before}\n{after}");
    Ok(())
}

static BYTES: OnceLock<Vec<u8>> = OnceLock::new();

#[rpc_parallel::worker]
trait Read {
    /// Returns the sum of [`BYTES`].
    fn sum(&self) -> u64;
}

#[derive(Default, WorkerState)]
struct Reader;

#[rpc_parallel::worker]
impl Read for Reader {
    fn sum(&self) -> u64 {
        BYTES.get().map_or(0, |it| it.iter().map(|&it| u64::from(it)).sum())
    }
}

fn of_entry() -> anyhow::Result<()> {
    assert_eq!(Snapshot::of_entry().err(), Some(SnapshotError::NotTaken));
    Ok(())
}
