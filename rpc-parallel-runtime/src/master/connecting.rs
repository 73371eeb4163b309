//! From a socket to a typed client.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;

use tokio::time::timeout;

use super::connect_error::ConnectErrorKind;
use crate::connection::{self, AnyError, Client, FailureLookup, Opening};
use crate::transport::{self, split};
use crate::wire::{
    EncodeError, FunctionInfo, Message, Settings, Sink, WorkerId, WorkerLabel, encode,
};
use crate::worker::greeting;

/// A connection that is opened.
type Opened<'a> = Pin<Box<dyn Future<Output = Result<Client, ConnectErrorKind>> + Send + 'a>>;

/// Makes a socket that leads to a listener. Whoever finds no room among those who wait there waits
/// as well, but no longer than a handshake may take.
pub(super) async fn connect_to(
    path: &Path,
    settings: Settings,
) -> Result<UnixStream, ConnectErrorKind> {
    let within = settings.handshake_timeout();
    match timeout(within, transport::connect(path)).await {
        Ok(connected) => connected.map_err(unreachable),
        Err(_) => Err(ConnectErrorKind::TimedOut { within }),
    }
}

/// Opens a connection to a worker over a socket that leads to it, by what is left to be said of
/// [`ask_for`].
pub(super) fn open(
    socket: UnixStream,
    settings: Settings,
    (id, label): (WorkerId, WorkerLabel),
    ask: &[u8],
    failure_lookup: FailureLookup,
) -> Opened<'_> {
    // Boxed here, lest every program compile it anew.
    Box::pin(async move {
        let halves = split(socket).map_err(ConnectErrorKind::Unreachable)?;
        let mut opening = Opening::new(halves, settings);
        match opening.connect(ask).await.map_err(ConnectErrorKind::from) {
            Ok(()) => Ok(Client::begin(opening, id, label, failure_lookup)),
            // The worker may have died meanwhile, which says more than that the socket is closed.
            Err(ConnectErrorKind::Unreachable(error)) => Err(match failure_lookup.await {
                Some(failure) => ConnectErrorKind::WorkerDied(failure),
                None => ConnectErrorKind::Unreachable(error),
            }),
            Err(kind) => Err(kind),
        }
    })
}

/// Makes the first frame of a connection to a worker, from the encoded argument of the connection's
/// `init`.
pub(super) fn ask_for(
    id: WorkerId,
    init: Result<Vec<u8>, String>,
    settings: Settings,
) -> Result<Vec<u8>, ConnectErrorKind> {
    let init = init.map_err(|why| ConnectErrorKind::InitArgument { why })?;
    Ok(connection::ask_for(id, greeting(), &init, settings)?)
}

/// Makes the words of who does not belong to the worker's program.
pub(super) fn introduce(functions: &[FunctionInfo]) -> Result<Vec<u8>, ConnectErrorKind> {
    Ok(connection::introduce(functions)?)
}

/// Where nothing listens any more the worker has ended.
pub(super) fn unreachable(error: io::Error) -> ConnectErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::BrokenPipe => {
            ConnectErrorKind::NoSuchWorker
        }
        _ => ConnectErrorKind::Unreachable(error),
    }
}

/// The autopsy of those who know nothing of the worker's process.
pub(super) fn no_failure_lookup() -> FailureLookup {
    Box::pin(async { None })
}

/// Encodes the argument of an `init`; the error says why it cannot travel.
pub(super) fn encode_init(init: &impl Message, settings: Settings) -> Result<Vec<u8>, String> {
    encode_by(&|sink| encode(init, sink), settings)
}

fn encode_by(
    encode: &dyn Fn(&mut Sink<'_>) -> Result<(), EncodeError>,
    settings: Settings,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut sink = Sink::new(&mut bytes, settings.max_message_size());
    let encoded = encode(&mut sink).map_err(AnyError::from);
    let encoded = encoded.and_then(|()| sink.finish().map_err(AnyError::from));
    encoded.map(|_| bytes).map_err(|it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Address;

    #[tokio::test(start_paused = true)]
    async fn connecting_to_full_backlog_times_out_with_handshake() {
        let made = Address::of_new_listener(WorkerId::random());
        let (listener, address) = made.expect("there is a directory");
        rustix::net::listen(&listener, 0).expect("it listens already");
        let (path, settings) = (address.path(), Settings::default());
        let _first = connect_to(&path, settings).await.expect("there is room for one");

        let began = tokio::time::Instant::now();
        let second = connect_to(&path, settings).await;

        let expected = settings.handshake_timeout();
        let Err(ConnectErrorKind::TimedOut { within }) = second else { panic!("{second:?}") };
        assert_eq!((within, began.elapsed()), (expected, expected));
    }
}
