//! Workers that are forked from a snapshot.
//!
//! A snapshot is taken while the process has a single thread, so before anything is measured.

use std::sync::OnceLock;

use anyhow::Context;
use rpc_parallel::launch::{SealedSlice, Snapshot};
use rpc_parallel::prelude::*;

use super::calls::{EchoState, RpcParallelCaller};
use crate::echo_caller::EchoCaller;
use crate::worker_handle::WorkerHandle;

/// The size of the data in the snapshots of [`GibibyteSealed`] and [`GibibyteOfHeap`], in bytes.
const GIBIBYTE: usize = 1 << 30;

static SEALED: OnceLock<SealedSlice<u8>> = OnceLock::new();
static HEAP: OnceLock<Vec<u8>> = OnceLock::new();

/// What a snapshot holds.
pub(crate) trait Held: Send + Sync + 'static {
    fn warm() -> Result<(), BoxError>;
    fn snapshot() -> &'static OnceLock<Snapshot>;
}

/// The program alone.
pub(crate) struct Nothing;

/// 1 GiB in memory of its own.
pub(crate) struct GibibyteSealed;

/// 1 GiB on the heap, whose page tables are copied.
pub(crate) struct GibibyteOfHeap;

impl Held for Nothing {
    fn warm() -> Result<(), BoxError> {
        Ok(())
    }

    fn snapshot() -> &'static OnceLock<Snapshot> {
        static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
        &SNAPSHOT
    }
}

impl Held for GibibyteSealed {
    fn warm() -> Result<(), BoxError> {
        let mut bytes = SealedSlice::builder(GIBIBYTE)?;
        bytes.fill(1);
        SEALED.set(bytes.seal()?).map_err(|_| "it was filled before".into())
    }

    fn snapshot() -> &'static OnceLock<Snapshot> {
        static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
        &SNAPSHOT
    }
}

impl Held for GibibyteOfHeap {
    fn warm() -> Result<(), BoxError> {
        HEAP.set(vec![1; GIBIBYTE]).map_err(|_| "it was filled before".into())
    }

    fn snapshot() -> &'static OnceLock<Snapshot> {
        static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
        &SNAPSHOT
    }
}

/// Takes the snapshots that a figure needs.
pub(crate) fn take_for(figure: &str) -> anyhow::Result<()> {
    match figure {
        "spawn.snapshot" | "spawn.snapshot_hundred" | "worker.snapshot_memory" => take::<Nothing>(),
        "spawn.snapshot_1GiB" => {
            take::<GibibyteSealed>()?;
            take::<GibibyteOfHeap>()
        }
        _ => Ok(()),
    }
}

/// Takes the snapshot of this kind, if it was not taken before.
pub(crate) fn take<H: Held>() -> anyhow::Result<()> {
    if H::snapshot().get().is_none() {
        let snapshot = Snapshot::warm(H::warm)?;
        H::snapshot().get_or_init(|| snapshot);
    }
    Ok(())
}

/// A worker that is forked from a snapshot.
pub(crate) struct SnapshotCaller<H> {
    caller: RpcParallelCaller,
    held: std::marker::PhantomData<H>,
}

impl<H: Held> WorkerHandle for SnapshotCaller<H> {
    async fn start() -> anyhow::Result<Self> {
        let snapshot = H::snapshot().get().context("the snapshot was not taken")?.clone();
        let client = EchoState::spawner().launcher(snapshot).spawn(()).await?;
        Ok(Self { caller: RpcParallelCaller { client }, held: std::marker::PhantomData })
    }

    async fn worker_pid(&mut self) -> anyhow::Result<u32> {
        self.caller.worker_pid().await
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.caller.stop().await
    }
}

impl<H: Held> AsRef<RpcParallelCaller> for SnapshotCaller<H> {
    fn as_ref(&self) -> &RpcParallelCaller {
        &self.caller
    }
}

impl<H: Held> EchoCaller for SnapshotCaller<H> {
    async fn call(&mut self, x: u64) -> anyhow::Result<u64> {
        self.caller.call(x).await
    }
}
