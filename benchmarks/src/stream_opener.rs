//! Open idle streams, and their memory.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::role::Role;
use crate::runtime::{self, CallFrom};
use crate::worker_handle::WorkerHandle;
use crate::{fresh_master, memory};

/// Enough streams for lazy initialization.
const WARM_UP: usize = 16;
/// Long enough for deferred work at both ends.
const SETTLE_TIME: Duration = Duration::from_millis(300);

/// A master's handle of a worker that opens streams to the master and writes nothing to them.
pub(crate) trait StreamOpener: WorkerHandle {
    /// The reading end of one stream.
    type Stream: Send;

    fn open(&mut self) -> impl Future<Output = anyhow::Result<Self::Stream>> + Send;
}

/// Opens `count` streams.
pub(crate) async fn open_streams<C: StreamOpener>(
    opener: &mut C,
    count: usize,
) -> anyhow::Result<Vec<C::Stream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(opener.open().await?);
    }
    Ok(streams)
}

/// The memory of many open streams at their two ends, in bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StreamMemory {
    pub(crate) master: f64,
    pub(crate) worker: f64,
}

impl StreamMemory {
    /// Measures the memory of streams in a fresh master of the given role.
    pub(crate) fn measure(role: Role) -> anyhow::Result<Self> {
        fresh_master::measure(role)
    }
}

/// Runs as a fresh master: measures the memory of `count` open streams and sends it.
pub(crate) fn send_memory<C: StreamOpener>(socket: UnixStream, count: usize) -> anyhow::Result<()> {
    let memory = runtime::run(CallFrom::SpawnedTask, async move {
        let mut opener = C::start().await?;
        drop(open_streams(&mut opener, WARM_UP).await?);
        let before = current_memory(&mut opener).await?;
        let streams = open_streams(&mut opener, count).await?;
        let after = current_memory(&mut opener).await?;
        drop(streams);
        opener.stop().await?;
        Ok(StreamMemory {
            master: after.master - before.master,
            worker: after.worker - before.worker,
        })
    })?;
    fresh_master::send(socket, &memory)
}

async fn current_memory<C: StreamOpener>(opener: &mut C) -> anyhow::Result<StreamMemory> {
    let worker = opener.worker_pid().await?;
    tokio::time::sleep(SETTLE_TIME).await;
    Ok(StreamMemory {
        master: memory::anonymous_mebibytes(std::process::id())? * MEBIBYTE,
        worker: memory::anonymous_mebibytes(worker)? * MEBIBYTE,
    })
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;
