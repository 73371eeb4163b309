//! A direct pipe: the function writes straight to the wire, and a callback of the caller runs where
//! each element is read, until somebody aborts it.

use rpc_parallel::pipe::{CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use tokio::sync::mpsc::unbounded_channel;

/// Plays ping-pong.
#[rpc_parallel::worker]
pub trait PingPong {
    /// Sends each ping after the pong for the one before, until nobody listens any more.
    /// Returns how many there were.
    async fn play(&self, pings: PipeWriter<u32>, pongs: Pipe<u32>) -> u32;
}

#[derive(Default, WorkerState)]
struct Player;

#[rpc_parallel::worker]
impl PingPong for Player {
    async fn play(&self, pings: PipeWriter<u32>, mut pongs: Pipe<u32>) -> u32 {
        let mut count = 0;
        while pings.send(count).await.is_ok() {
            count += 1;
            tokio::select! {
                // It resolves when the caller has aborted, or is gone.
                () = pings.closed() => break,
                pong = pongs.next() => assert_eq!(pong.and_then(Result::ok), Some(count - 1)),
            }
        }
        println!("worker: the pings are closed");
        count
    }
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let (pings, pipe) = Pipe::pair();
    let (pong, pongs) = Pipe::pair();
    let (sender, mut seen) = unbounded_channel();

    let abort = pipe.for_each_direct(move |ping| {
        // It delays whatever else is read, so it only hands things over.
        sender.send(ping).expect("the loop below waits for the last of them");
    });
    let playing = tokio::spawn(Player::spawn(()).await?.play(pings, pongs));

    while let Some(ping) = seen.recv().await {
        match ping {
            PipeEvent::Element(4) => {
                println!("ping 4, and that is enough");
                abort.abort();
            }
            PipeEvent::Element(number) => {
                println!("ping {number}, pong {number}");
                pong.send(number).await?;
            }
            // Exactly once, and nothing follows it.
            PipeEvent::Closed(CloseReason::ByAbort) => println!("closed by abort"),
            PipeEvent::Closed(CloseReason::ByWriter) => {
                anyhow::bail!("the worker never stops by itself")
            }
            PipeEvent::Closed(CloseReason::Error(error)) => return Err(error.into()),
        }
    }

    assert_eq!(playing.await??, 5);
    Ok(())
}
