//! Streams that are open and idle, and what each holds in memory.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::place::{self, Place};
use crate::role::Role;
use crate::{fresh, memory};

/// Enough for whatever is made when it is first needed.
const WARM_UP: usize = 16;
/// Long enough for both ends to do whatever they put off.
const IDLE: Duration = Duration::from_millis(300);

/// A conversation with a worker that opens streams to the master, and writes nothing to them.
pub(crate) trait Opener: Conversation {
    /// The reading end of one.
    type Pipe: Send;

    fn open(&mut self) -> impl Future<Output = anyhow::Result<Self::Pipe>> + Send;
}

/// Opens so many streams.
pub(crate) async fn opened<C: Opener>(
    opener: &mut C,
    count: usize,
) -> anyhow::Result<Vec<C::Pipe>> {
    let mut pipes = Vec::with_capacity(count);
    for _ in 0..count {
        pipes.push(opener.open().await?);
    }
    Ok(pipes)
}

/// What many open streams hold at their two ends, in bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) master: f64,
    pub(crate) worker: f64,
}

impl Held {
    /// Has a fresh master of the given role measure what its streams hold.
    pub(crate) fn by(role: Role) -> anyhow::Result<Self> {
        fresh::measured(role)
    }
}

/// The fresh master: measures what `count` open streams hold, and reports it.
pub(crate) fn measure<C: Opener>(socket: UnixStream, count: usize) -> anyhow::Result<()> {
    let held = place::run(Place::Task, async move {
        let mut opener = C::start().await?;
        drop(opened(&mut opener, WARM_UP).await?);
        let before = held_now(&mut opener).await?;
        let pipes = opened(&mut opener, count).await?;
        let after = held_now(&mut opener).await?;
        drop(pipes);
        opener.end().await?;
        Ok(Held { master: after.master - before.master, worker: after.worker - before.worker })
    })?;
    fresh::report(socket, &held)
}

async fn held_now<C: Opener>(opener: &mut C) -> anyhow::Result<Held> {
    let worker = opener.worker_id().await?;
    tokio::time::sleep(IDLE).await;
    Ok(Held {
        master: memory::own_mebibytes(std::process::id())? * MEBIBYTE,
        worker: memory::own_mebibytes(worker)? * MEBIBYTE,
    })
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;
