//! A direct pipe: a function writes elements while it runs, and a callback of the caller runs for
//! each element where it is read from the socket, until the caller aborts the pipe.

use rpc_parallel::pipe::{CloseReason, PipeEvent};
use rpc_parallel::prelude::*;
use tokio::sync::mpsc::unbounded_channel;

/// Plays ping-pong.
#[rpc_parallel::worker]
pub trait PingPong {
    /// Sends a ping after the pong for the previous one, until the pipe of pings is closed.
    /// Returns the number of pings.
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
                // Resolves when the caller has aborted the pipe or its process has ended.
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
        // Everything else on the connection waits for the callback, so it only forwards.
        sender.send(ping).expect("the loop below receives until the pipe is closed");
    });
    let playing = tokio::spawn(Player::spawn(()).await?.play(pings, pongs));

    while let Some(ping) = seen.recv().await {
        match ping {
            PipeEvent::Element(4) => {
                println!("ping 4: the master aborts the pipe");
                abort.abort();
            }
            PipeEvent::Element(number) => {
                println!("ping {number}, pong {number}");
                pong.send(number).await?;
            }
            // The last event; it occurs exactly once.
            PipeEvent::Closed(CloseReason::ByAbort) => println!("closed by abort"),
            PipeEvent::Closed(CloseReason::ByWriter) => {
                anyhow::bail!("the worker has ended the pipe")
            }
            PipeEvent::Closed(CloseReason::Error(error)) => return Err(error.into()),
        }
    }

    assert_eq!(playing.await??, 5);
    Ok(())
}
