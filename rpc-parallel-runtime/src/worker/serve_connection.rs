//! Serves a connection to a worker server of this process.

use std::error::Error;
use std::sync::Arc;

use super::registry::greeting;
use super::servers::Servers;
use crate::connection::{
    AnyError, Opening, OpeningError, Request, Serving, Session, Task, diagnose, task,
};
use crate::transport::Fault;
use crate::wire::{Refusal, Settings, Signature};

/// The end of a connection that this process served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionOutcome {
    /// The caller ended the connection, violated the protocol, or was refused.
    Ended,
    /// A read or write failed, for another reason than that the caller has closed the connection.
    SocketFailed,
}

/// Serves one connection from its first frame to its end. Errors go to stderr, because the caller
/// cannot receive them any more.
pub(crate) async fn serve_connection(mut opening: Opening) -> ConnectionOutcome {
    let servers = Servers::get();
    let _connection = servers.count_connection();
    let request = match opening.receive_request().await {
        Ok(request) => request,
        // The refusal carries the reason to a peer that has another protocol version.
        Err(OpeningError::Frame(error)) => {
            let refusal = Refusal::Violation { why: error.to_string() };
            return not_opened(opening.refuse(&refusal).await);
        }
        Err(error) => return not_opened(Err(error)),
    };
    let settings = opening.settings();
    match opening.decide(begin(request, settings, servers)).await {
        Ok(Ok(session)) => match Serving::welcome(opening, session).run().await {
            Ok(()) => ConnectionOutcome::Ended,
            Err(error) => {
                let of_socket = error.is_of_socket();
                report(error);
                if of_socket { ConnectionOutcome::SocketFailed } else { ConnectionOutcome::Ended }
            }
        },
        Ok(Err(refusal)) => not_opened(opening.refuse(&refusal).await),
        Err(error) => not_opened(Err(error)),
    }
}

/// Creates the task that serves one connection.
pub(crate) fn connection_task(opening: Opening) -> Task {
    task(async {
        serve_connection(opening).await;
    })
}

/// Returns the outcome of a connection that was not opened.
fn not_opened(refused: Result<(), OpeningError>) -> ConnectionOutcome {
    match refused {
        Err(OpeningError::Socket(error)) if Fault::of(&error) != Fault::PeerGone => {
            report(OpeningError::Socket(error));
            ConnectionOutcome::SocketFailed
        }
        // The caller has closed the connection, missed the handshake timeout, or got the refusal.
        Ok(()) | Err(_) => ConnectionOutcome::Ended,
    }
}

/// Writes the error that ended a connection to stderr.
fn report(error: impl Error) {
    diagnose(format_args!("connection failed: {}", AnyError::of(&error)));
}

/// Begins the session that a connecting process requests, or refuses it.
async fn begin(
    request: Request,
    settings: Settings,
    servers: &Servers,
) -> Result<Arc<dyn Session>, Refusal> {
    let Request { greeting: theirs, worker, init, functions } = request;
    let ours = greeting();
    if theirs != ours && !settings.other_builds() {
        let why = format!(
            "expected build {:016x} of the worker, found build {:016x} of the connecting process; \
             set `Settings::with_other_builds` of the worker to accept other builds",
            ours.fingerprint, theirs.fingerprint
        );
        return Err(Refusal::OtherBuild { why });
    }
    let Some(init) = init else {
        return servers.connect_control(worker, settings).ok_or(Refusal::NoSuchWorker);
    };
    let server = servers.find(worker).ok_or(Refusal::NoSuchWorker)?;
    if let Some(theirs) = functions
        && let Some(why) = Signature::conflict(&server.signatures(), &theirs)
    {
        return Err(Refusal::OtherTypes { why });
    }
    Ok(server.connect(init, settings).await?)
}
