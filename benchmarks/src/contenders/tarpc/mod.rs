//! A peer: tarpc with bincode over a Unix socket, set up as its own documentation does.

pub(crate) mod calls;
pub(crate) mod bulk;
pub(crate) mod holding;

use std::os::unix::net;

use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tarpc::serde_transport::{self, Transport};
use tarpc::tokio_util::codec::LengthDelimitedCodec;
use tokio::net::UnixStream;
use tokio_serde::formats::Bincode;

/// Larger than any argument; the default is 8 MiB.
const LARGEST: usize = 2 << 30;

type Over<Received, Sent> = Transport<UnixStream, Received, Sent, Bincode<Received, Sent>>;

fn transport<Received, Sent>(socket: net::UnixStream) -> anyhow::Result<Over<Received, Sent>>
where
    Received: for<'de> Deserialize<'de>,
    Sent: Serialize,
{
    socket.set_nonblocking(true)?;
    let frames = LengthDelimitedCodec::builder()
        .max_frame_length(LARGEST)
        .new_framed(UnixStream::from_std(socket)?);
    Ok(serde_transport::new(frames, Bincode::default()))
}

/// The worker's part: a task per call, as the peer's documentation has it.
async fn spawn_each(calls: impl Stream<Item = impl Future<Output = ()> + Send + 'static>) {
    calls
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
}
