//! Streams within one process: a queue of tokio each, and no other end.

use tokio::sync::mpsc;

use crate::conversation::Conversation;
use crate::opener::Opener;

/// Opens queues for one number each, whose two ends both stay here.
pub(crate) struct FloorChannels;

impl Conversation for FloorChannels {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn worker_id(&mut self) -> anyhow::Result<u32> {
        Ok(std::process::id())
    }

    async fn end(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Opener for FloorChannels {
    type Pipe = (mpsc::Sender<u64>, mpsc::Receiver<u64>);

    async fn open(&mut self) -> anyhow::Result<Self::Pipe> {
        Ok(mpsc::channel(1))
    }
}
