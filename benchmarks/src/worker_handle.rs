//! A master's handle of one worker process.

/// A master's handle of one worker process, implemented for each contender.
pub(crate) trait WorkerHandle: Sized + Send + 'static {
    /// Starts a worker process.
    fn start() -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Returns the pid of the worker.
    fn worker_pid(&mut self) -> impl Future<Output = anyhow::Result<u32>> + Send;

    /// Ends the worker and waits for its exit, so that it does not disturb later measurements.
    fn stop(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
