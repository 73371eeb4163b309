//! The start handshake: the master sends the start message, and the new worker answers with `Hello`
//! and `Started`, each within a deadline.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::control_event::ControlEvent;
use super::process::Process;
use super::starting_error::{StartingError, io};
use crate::transport::{Backoff, Fault, Registered, adopt, try_send};
use crate::wire::PanicReport;

/// How long a process may take to exit after it has closed the control socket.
pub(super) const REMAINING_EVENTS_TIMEOUT: Duration = Duration::from_secs(1);

/// The master's end of the control socket while the worker starts.
pub(super) struct StartHandshake {
    control: Registered<UnixStream>,
    /// The last panic that the process has reported.
    panic: Option<PanicReport>,
}

/// The start handshake failed.
pub(super) enum HandshakeError {
    /// The process closed the control socket, possibly after a panic.
    Disconnected(Option<PanicReport>),
    /// The process closed the control socket before its hello, and without a panic.
    DisconnectedBeforeHello,
    Other(StartingError),
}

impl From<StartingError> for HandshakeError {
    fn from(error: StartingError) -> Self {
        Self::Other(error)
    }
}

impl StartHandshake {
    pub(super) fn new(control: Registered<UnixStream>) -> Self {
        Self { control, panic: None }
    }

    /// Sends the rest of the start message, and waits until the worker serves. Returns the control
    /// socket, and the path of the worker's own listener.
    pub(super) async fn run(
        mut self,
        rest: &[u8],
        process: &Process,
        connect_deadline: Deadline,
        init_timeout: Option<Duration>,
    ) -> Result<(OwnedFd, Option<PathBuf>), HandshakeError> {
        let hello = async {
            self.send(rest).await?;
            match self.next_event().await {
                Ok(ControlEvent::Hello { pid }) => Ok(pid),
                Ok(event) => Err(unexpected("Hello", &event)),
                Err(HandshakeError::Disconnected(None)) => {
                    Err(HandshakeError::DisconnectedBeforeHello)
                }
                Err(error) => Err(error),
            }
        };
        process.set_worker_pid(connect_deadline.enforce(hello).await?);
        let started = async {
            match self.next_event().await? {
                // A panic of another thread was reported before, and is ending the process.
                ControlEvent::Started { .. } if self.panic.is_some() => {
                    Err(HandshakeError::Disconnected(self.panic.take()))
                }
                ControlEvent::Started { listens_at } => Ok(listens_at),
                event => Err(unexpected("Started", &event)),
            }
        };
        let init_deadline = Deadline::new(init_timeout, StartingError::InitTimedOut);
        let listens_at = init_deadline.enforce(started).await?;
        let control = self.control.into_inner().into_std();
        let control = control.map_err(io("deregister its control socket from tokio"))?;
        Ok((control.into(), listens_at))
    }

    /// Sends bytes, until all are sent or the process has closed its end.
    ///
    /// # Errors
    ///
    /// The socket failed. It is not an error if the process has closed its end: the events that it
    /// has sent before contain the reason.
    async fn send(&mut self, mut rest: &[u8]) -> Result<(), StartingError> {
        let failed = || io("send it the start message");
        let mut backoff = Backoff::default();
        while !rest.is_empty() {
            let control = &*self.control;
            let sent = control.try_io(Interest::WRITABLE, || try_send(control, rest));
            let error = match sent {
                Ok(written) => {
                    rest = &rest[written..];
                    backoff.reset();
                    continue;
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                // It fails if this runtime is shut down, which also drops this future.
                Fault::NotReady => self.control.writable().await.map_err(failed())?,
                Fault::Transient => sleep(backoff.pause()).await,
                Fault::PeerGone => return Ok(()),
                Fault::Fatal => return Err(failed()(error)),
            }
        }
        Ok(())
    }

    /// Receives the next event, and no byte after it: the supervisor receives later events.
    async fn next_event(&mut self) -> Result<ControlEvent, HandshakeError> {
        let mut received = Vec::new();
        let mut backoff = Backoff::default();
        loop {
            if let Some((event, _)) =
                ControlEvent::decode(&received).map_err(StartingError::Message)?
            {
                match event {
                    ControlEvent::Failed(failure) => {
                        return Err(StartingError::Failed(failure).into());
                    }
                    // The panic is returned with the end of the process, which follows.
                    ControlEvent::Panicked(panic) => self.panic = Some(panic),
                    event => return Ok(event),
                }
                received.clear();
            }
            let mut buffer = [0; 1024];
            let len = ControlEvent::first_len(&received).map_err(StartingError::Message)?;
            let missing = buffer.len().min(len - received.len());
            let error = match self.control.try_read(&mut buffer[..missing]) {
                Ok(0) => return Err(HandshakeError::Disconnected(self.panic.take())),
                Ok(len) => {
                    received.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::NotReady => {
                    let readable = self.control.readable().await;
                    readable.map_err(io("wait for its control events"))?;
                }
                Fault::Transient => sleep(backoff.pause()).await,
                Fault::PeerGone => return Err(HandshakeError::Disconnected(self.panic.take())),
                Fault::Fatal => return Err(io("read its control events")(error).into()),
            }
        }
    }
}

/// Reads the remaining events of a process that exited directly after its start, and returns why it
/// failed.
pub(super) async fn remaining_events(control: OwnedFd) -> HandshakeError {
    let reading = async {
        let control = adopt(control).map_err(io("register its control socket with tokio"))?;
        let mut handshake = StartHandshake::new(control);
        loop {
            handshake.next_event().await?;
        }
    };
    let read: Result<Result<Infallible, HandshakeError>, _> =
        timeout(REMAINING_EVENTS_TIMEOUT, reading).await;
    match read {
        Ok(Err(error)) => error,
        // A process that the worker has forked keeps the control socket open.
        Err(_) => HandshakeError::Disconnected(None),
    }
}

fn unexpected(expected: &str, event: &ControlEvent) -> HandshakeError {
    let why = io::Error::other(format!("expected the event `{expected}`, found {event:?}"));
    io("read its control events")(why).into()
}

/// Waits until the handshake is complete, or until the process has exited and all of its events are
/// read.
pub(super) async fn unless_exited<T>(
    process: &Process,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let mut handshake = pin!(handshake);
    let mut end = pin!(process.end());
    let first = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => end.as_mut().poll(cx).map(|_| None),
    });
    match first.await {
        Some(result) => result,
        // The handshake reads the remaining events and the end of the control socket. The socket
        // has no end if a launcher's process has exited before the worker.
        None => timeout(REMAINING_EVENTS_TIMEOUT, handshake)
            .await
            .unwrap_or(Err(HandshakeError::Disconnected(None))),
    }
}

/// A deadline, and the error for missing it.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    began: Instant,
    limit: Option<Duration>,
    missed: fn(Duration) -> StartingError,
}

impl Deadline {
    /// Returns the deadline after this limit from now. `None` is no deadline.
    pub(super) fn new(limit: Option<Duration>, missed: fn(Duration) -> StartingError) -> Self {
        Self { began: Instant::now(), limit, missed }
    }

    pub(super) fn left(self) -> Option<Duration> {
        self.limit.map(|it| it.saturating_sub(self.began.elapsed()))
    }

    /// Awaits a future until the deadline.
    pub(super) async fn enforce<T, E>(
        self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E>
    where
        E: From<StartingError>,
    {
        let (Some(left), Some(limit)) = (self.left(), self.limit) else { return future.await };
        timeout(left, future).await.unwrap_or_else(|_| Err((self.missed)(limit).into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc::channel;
    use std::thread;

    use tokio::runtime::Builder;

    use super::*;
    use crate::transport::{adopt, connected_pair};

    #[tokio::test]
    async fn event_after_received_one_stays_in_socket() {
        let (ours, mut theirs) = connected_pair().expect("make a socket pair");
        let started = ControlEvent::Started { listens_at: None };
        let backtrace = Some("frame\n".repeat(1000));
        let panic = PanicReport { message: "out of range".to_owned(), location: None, backtrace };
        let panicked = ControlEvent::Panicked(panic).encode();
        let both = [started.encode(), panicked.clone()].concat();
        theirs.write_all(&both).expect("a socket buffer holds some thousand bytes");
        drop(theirs);

        let mut handshake =
            StartHandshake::new(adopt(ours).expect("the test runs in a tokio runtime"));
        let event = handshake.next_event().await;

        assert!(event.is_ok_and(|it| it == started));
        let mut socket =
            handshake.control.into_inner().into_std().expect("take a socket from tokio");
        socket.set_nonblocking(false).expect("the socket is open");
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("the socket is open");
        assert!(rest == panicked, "{} of {} bytes", rest.len(), panicked.len());
    }

    #[tokio::test]
    async fn event_received_in_pieces_is_decoded_and_panic_is_returned_at_end() {
        let (ours, mut theirs) = connected_pair().expect("make a socket pair");
        let message = "out of range ".repeat(1000);
        let panic = PanicReport { message, location: None, backtrace: None };
        let hello = ControlEvent::Hello { pid: 7 };
        let bytes = [ControlEvent::Panicked(panic.clone()).encode(), hello.encode()].concat();
        let mut handshake =
            StartHandshake::new(adopt(ours).expect("the test runs in a tokio runtime"));

        let writing = async move {
            for piece in bytes.chunks(3) {
                theirs.write_all(piece).expect("a socket buffer holds three bytes");
                tokio::task::yield_now().await;
            }
        };
        let (event, ()) = tokio::join!(handshake.next_event(), writing);
        let end = handshake.next_event().await;

        assert!(event.is_ok_and(|it| it == hello));
        assert!(matches!(end, Err(HandshakeError::Disconnected(Some(it))) if it == panic));
    }

    #[test]
    fn sending_ends_when_its_runtime_is_shut_down() {
        let (ours, _theirs) = connected_pair().expect("make a socket pair");
        let runtime =
            || Builder::new_current_thread().enable_all().build().expect("make a runtime");
        let ending = runtime();
        let mut handshake = ending.block_on(async {
            StartHandshake::new(adopt(ours).expect("the test runs in a tokio runtime"))
        });
        drop(ending);

        let (ended, end) = channel();
        thread::spawn(move || {
            let _ = runtime().block_on(handshake.send(&[0; 10]));
            ended.send(())
        });

        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(()));
    }
}
