//! The steps from a worker's address to a client: the socket, the connect request, the handshake.

use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;

use bytes::Bytes;
use tokio::time::timeout;

use super::connect_error::ConnectErrorKind;
use crate::connection::{self, AnyError, Client, Opening, ProcessAccess};
use crate::launch::{ConnectionUse, Started};
use crate::transport::{Dial, Fault, Halves, split};
use crate::wire::{
    EncodeError, FunctionInfo, Message, Settings, Sink, WorkerId, WorkerLabel, encode,
};
use crate::worker::greeting;

/// The future of a client whose connection is being opened.
type OpenFuture<'a> = Pin<Box<dyn Future<Output = Result<Client, ConnectErrorKind>> + Send + 'a>>;

/// Opens a transport to a worker. While its listener has no room for another connection, this
/// waits, for at most the `handshake_timeout`.
pub(super) async fn dial(dial: &dyn Dial, settings: Settings) -> Result<Halves, ConnectErrorKind> {
    let within = settings.handshake_timeout();
    match timeout(within, dial.dial()).await {
        Ok(dialed) => dialed.map_err(socket_error),
        Err(_) => Err(ConnectErrorKind::TimedOut { within }),
    }
}

/// Makes a transport of a connected socket.
pub(super) fn over_socket(
    socket: UnixStream,
    settings: Settings,
) -> Result<Halves, ConnectErrorKind> {
    split(socket, settings.busy_poll()).map_err(ConnectErrorKind::Unreachable)
}

/// Opens a transport to a worker that this process has started.
pub(super) async fn open_to_process(
    started: &Started,
    purpose: ConnectionUse,
    settings: Settings,
) -> Result<Halves, ConnectErrorKind> {
    match started.open(purpose, settings.busy_poll()).await {
        Ok(halves) => Ok(halves),
        // The process has ended, and the supervisor may not have reaped it yet.
        Err(error) if Fault::of(&error) == Fault::PeerGone => {
            Err(match started.failure_lookup().await {
                Some(failure) => ConnectErrorKind::WorkerDied(failure),
                None => socket_error(error),
            })
        }
        Err(error) => Err(socket_error(error)),
    }
}

/// Opens a connection to a worker over a transport. `request` is the [`connect_request`], or the
/// rest of it if the beginning has been written already.
pub(super) fn open(
    halves: Halves,
    settings: Settings,
    (id, label): (WorkerId, WorkerLabel),
    request: &[u8],
    process_access: ProcessAccess,
) -> OpenFuture<'_> {
    // Boxed here, so that it is compiled once and not in each program.
    Box::pin(async move {
        let mut opening = Opening::new(halves, settings);
        match opening.connect(request).await.map_err(ConnectErrorKind::from) {
            Ok(()) => Ok(Client::begin(opening, id, label, process_access)),
            // If the worker has ended, its failure report is more useful than the socket's error.
            Err(ConnectErrorKind::Unreachable(error)) => {
                Err(match process_access.failure_lookup.await {
                    Some(failure) => ConnectErrorKind::WorkerDied(failure),
                    None => ConnectErrorKind::Unreachable(error),
                })
            }
            Err(kind) => Err(kind),
        }
    })
}

/// Opens a connection over a socket whose other end a server without connection state serves.
#[cfg(feature = "pool")]
pub(crate) async fn connect_over(
    socket: UnixStream,
    settings: Settings,
    worker: (WorkerId, WorkerLabel),
) -> Result<Client, ConnectErrorKind> {
    let request = connect_request(worker.0, encode_init(&(), settings), settings)?;
    let halves = over_socket(socket, settings)?;
    open(halves, settings, worker, &request, ProcessAccess::none()).await
}

/// Encodes the connect request, the first frame of a connection to a worker. `init` is the encoded
/// argument of the connection state's `init`.
pub(super) fn connect_request(
    id: WorkerId,
    init: Result<Bytes, String>,
    settings: Settings,
) -> Result<Vec<u8>, ConnectErrorKind> {
    let init = init.map_err(|why| ConnectErrorKind::InitArgument { why })?;
    Ok(connection::encode_request(id, greeting(), &init, settings)?)
}

/// Encodes the introduction, the frame that a process of another program sends before its connect
/// request. It lists the functions that the process will call.
pub(super) fn introduction(functions: &[FunctionInfo]) -> Result<Vec<u8>, ConnectErrorKind> {
    Ok(connection::encode_introduction(functions)?)
}

/// Converts the error of connecting a socket to a worker. A missing listener or peer means that the
/// worker has ended.
pub(super) fn socket_error(error: io::Error) -> ConnectErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::BrokenPipe => {
            ConnectErrorKind::NoSuchWorker
        }
        _ => ConnectErrorKind::Unreachable(error),
    }
}

/// Encodes the argument of an `init`. The error is the text of the encoder's error.
pub(crate) fn encode_init(init: &impl Message, settings: Settings) -> Result<Bytes, String> {
    encode_with(&|sink| encode(init, sink), settings)
}

/// Encodes by a trait object, so that this is compiled once and not for each type.
fn encode_with(
    encode: &dyn Fn(&mut Sink<'_>) -> Result<(), EncodeError>,
    settings: Settings,
) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let mut sink = Sink::new(&mut bytes, settings.max_message_size());
    let encoded = encode(&mut sink).map_err(AnyError::from);
    let encoded = encoded.and_then(|()| sink.finish().map_err(AnyError::from));
    encoded.map(|_| bytes.into()).map_err(|it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Address, ListenerDial};

    #[tokio::test(start_paused = true)]
    async fn connecting_to_full_backlog_times_out_with_handshake() {
        let made = Address::of_new_listener(WorkerId::random());
        let (listener, address) = made.expect("there is a directory");
        rustix::net::listen(&listener, 0).expect("it listens already");
        let (path, settings) = (address.path(), Settings::default());
        let listener = ListenerDial::new(&path, settings.busy_poll());
        let _first = dial(&listener, settings).await.expect("there is room for one");

        let began = tokio::time::Instant::now();
        let second = dial(&listener, settings).await.map(drop);

        let expected = settings.handshake_timeout();
        let Err(ConnectErrorKind::TimedOut { within }) = second else { panic!("{second:?}") };
        assert_eq!((within, began.elapsed()), (expected, expected));
    }
}
