//! Calls with large arguments, and their timing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;

use crate::worker_handle::WorkerHandle;

/// A master's handle of a worker that returns the length of its argument, an `Argument` of bytes.
pub(crate) trait BulkCaller<Argument>: WorkerHandle {
    fn call_with(&mut self, argument: Argument)
    -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// An argument that is a stream: `count` times the same chunk.
pub(crate) struct Chunks {
    pub(crate) chunk: Bytes,
    pub(crate) count: usize,
}

/// Times sequential calls with an argument of `bytes` bytes.
pub(crate) async fn time_bulk_calls<C, Argument>(
    bytes: usize,
    times: u32,
) -> anyhow::Result<Duration>
where
    C: BulkCaller<Argument>,
    Argument: From<Vec<u8>> + Clone,
{
    let mut caller = C::start().await?;
    // The buffer is filled so that its pages are mapped.
    let argument = Argument::from(vec![7; bytes]);
    let mut elapsed = Duration::ZERO;
    for call in 0..=times {
        // Copies that the caller must make are not timed.
        let argument = argument.clone();
        let begin = Instant::now();
        let received = caller.call_with(argument).await?;
        // The first call is the warm-up.
        if call > 0 {
            elapsed += begin.elapsed();
        }
        ensure!(received == bytes as u64, "expected {bytes} bytes, the worker received {received}");
    }
    caller.stop().await?;
    Ok(elapsed)
}
