//! The master's end of a conversation with one worker process.

pub(crate) trait Conversation: Sized + Send + 'static {
    /// Starts a worker process.
    fn start() -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Names the worker's process.
    fn worker_id(&mut self) -> impl Future<Output = anyhow::Result<u32>> + Send;

    /// Ends the worker and waits until it is gone, so that it disturbs nobody measured later.
    fn end(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
