//! A peer: tarpc with bincode over a Unix socket, set up as its documentation shows.

pub(crate) mod calls;
pub(crate) mod bulk;
pub(crate) mod cancellation;

use std::os::unix::net;

use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tarpc::serde_transport::{self, Transport};
use tarpc::tokio_util::codec::LengthDelimitedCodec;
use tokio::net::UnixStream;
use tokio_serde::formats::Bincode;

/// Larger than any argument. Default: 8 MiB.
const MAX_ARGUMENT: usize = 2 << 30;

type BincodeTransport<Received, Sent> =
    Transport<UnixStream, Received, Sent, Bincode<Received, Sent>>;

fn transport<Received, Sent>(
    socket: net::UnixStream,
) -> anyhow::Result<BincodeTransport<Received, Sent>>
where
    Received: for<'de> Deserialize<'de>,
    Sent: Serialize,
{
    socket.set_nonblocking(true)?;
    let frames = LengthDelimitedCodec::builder()
        .max_frame_length(MAX_ARGUMENT)
        .new_framed(UnixStream::from_std(socket)?);
    Ok(serde_transport::new(frames, Bincode::default()))
}

/// Spawns a task per call, as the documentation of tarpc shows.
async fn spawn_calls(calls: impl Stream<Item = impl Future<Output = ()> + Send + 'static>) {
    calls
        .for_each(|call| async {
            tokio::spawn(call);
        })
        .await;
}
