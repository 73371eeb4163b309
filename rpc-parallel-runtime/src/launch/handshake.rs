//! What is said between a master and a process that becomes its worker, and until when it must be.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::process::Process;
use super::start::ControlEvent;
use super::starting::{StartingError, io};
use crate::transport::{Backoff, Fault, Registered, adopt};
use crate::wire::PanicReport;

/// How long a process that has closed its end may take to be dead.
pub(super) const REMAINING_EVENTS_TIMEOUT: Duration = Duration::from_secs(1);

/// The master's side of the control socket while the worker starts.
pub(super) struct StartHandshake {
    control: Registered<UnixStream>,
    panic: Option<PanicReport>,
}

/// Why there was no conversation to the end.
pub(super) enum HandshakeError {
    /// The process closed its end, perhaps after a panic.
    Ended(Option<PanicReport>),
    /// The process closed its end before its hello, and before any panic.
    Closed,
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

    /// Sends what is left of the start and waits until the worker serves.
    pub(super) async fn run(
        mut self,
        rest: &[u8],
        process: &Process,
        connecting: Deadline,
        init_timeout: Option<Duration>,
    ) -> Result<(OwnedFd, Option<PathBuf>), HandshakeError> {
        let hello = async {
            self.send(rest).await?;
            match self.report().await {
                Ok(ControlEvent::Hello { pid }) => Ok(pid),
                Ok(report) => Err(out_of_turn(&report)),
                Err(HandshakeError::Ended(None)) => Err(HandshakeError::Closed),
                Err(failed) => Err(failed),
            }
        };
        process.note_worker(connecting.hold(hello).await?);
        let started = async {
            match self.report().await? {
                // One of its threads has had a panic before, and ends it at this moment.
                ControlEvent::Started { .. } if self.panic.is_some() => {
                    Err(HandshakeError::Ended(self.panic.take()))
                }
                ControlEvent::Started { listens_at } => Ok(listens_at),
                report => Err(out_of_turn(&report)),
            }
        };
        let listens_at = Deadline::new(init_timeout, StartingError::InitTimedOut).hold(started);
        let listens_at = listens_at.await?;
        let control =
            self.control.into_inner().into_std().map_err(io("take a socket from tokio"))?;
        Ok((control.into(), listens_at))
    }

    /// Sends bytes, as far as the process reads them.
    ///
    /// # Errors
    ///
    /// The socket failed. It is no error if the process has closed its end: what it reported before
    /// tells more.
    async fn send(&mut self, mut rest: &[u8]) -> Result<(), StartingError> {
        let failed = || io("write to the new process");
        let mut backoff = Backoff::default();
        while !rest.is_empty() {
            let error = match self.control.try_write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    backoff.reset();
                    continue;
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                // It fails where this runtime ends, and whoever waits with it.
                Fault::NotReady => self.control.writable().await.map_err(failed())?,
                Fault::Transient => sleep(backoff.pause()).await,
                Fault::PeerGone => return Ok(()),
                Fault::Fatal => return Err(failed()(error)),
            }
        }
        Ok(())
    }

    /// Receives the next report, and nothing of what comes behind it: that is for the supervisor.
    async fn report(&mut self) -> Result<ControlEvent, HandshakeError> {
        let mut received = Vec::new();
        let mut backoff = Backoff::default();
        loop {
            if let Some((report, _)) =
                ControlEvent::decode(&received).map_err(StartingError::Message)?
            {
                match report {
                    ControlEvent::Failed(failure) => {
                        return Err(StartingError::Failed(failure).into());
                    }
                    // Its process ends of it, which is what is told.
                    ControlEvent::Panicked(panic) => self.panic = Some(panic),
                    report => return Ok(report),
                }
                received.clear();
            }
            let mut buffer = [0; 1024];
            let len = ControlEvent::first_len(&received).map_err(StartingError::Message)?;
            let lacking = buffer.len().min(len - received.len());
            let error = match self.control.try_read(&mut buffer[..lacking]) {
                Ok(0) => return Err(HandshakeError::Ended(self.panic.take())),
                Ok(len) => {
                    received.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::NotReady => {
                    self.control.readable().await.map_err(io("wait for the new process"))?;
                }
                Fault::Transient => sleep(backoff.pause()).await,
                Fault::PeerGone => return Err(HandshakeError::Ended(self.panic.take())),
                Fault::Fatal => return Err(io("read from the new process")(error).into()),
            }
        }
    }
}

/// Returns what a process has died of, by what it has said after it had started.
pub(super) async fn remaining_events(control: OwnedFd) -> HandshakeError {
    let listening = async {
        let control = adopt(control).map_err(io("register a socket with tokio"))?;
        let mut handshake = StartHandshake::new(control);
        loop {
            handshake.report().await?;
        }
    };
    let heard: Result<Result<Infallible, HandshakeError>, _> =
        timeout(REMAINING_EVENTS_TIMEOUT, listening).await;
    match heard {
        Ok(Err(failed)) => failed,
        // What it has forked holds its end open.
        Err(_) => HandshakeError::Ended(None),
    }
}

fn out_of_turn(report: &ControlEvent) -> HandshakeError {
    let why = io::Error::other(format!("{report:?} out of turn"));
    io("understand the new process")(why).into()
}

/// Waits until a conversation is over, or the process is dead and can have nothing more to say.
pub(super) async fn unless_dead<T>(
    process: &Process,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let mut handshake = pin!(handshake);
    let mut end = pin!(process.end());
    let over = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => end.as_mut().poll(cx).map(|_| None),
    });
    match over.await {
        Some(result) => result,
        // What it has said is read, and its end; there is none where a launcher's process has ended
        // before the worker's.
        None => timeout(REMAINING_EVENTS_TIMEOUT, handshake)
            .await
            .unwrap_or(Err(HandshakeError::Ended(None))),
    }
}

/// Until when something must have happened.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    began: Instant,
    limit: Option<Duration>,
    late: fn(Duration) -> StartingError,
}

impl Deadline {
    /// Begins now.
    pub(super) fn new(limit: Option<Duration>, late: fn(Duration) -> StartingError) -> Self {
        Self { began: Instant::now(), limit, late }
    }

    pub(super) fn left(self) -> Option<Duration> {
        self.limit.map(|it| it.saturating_sub(self.began.elapsed()))
    }

    /// Waits for a future, but not longer than this.
    pub(super) async fn hold<T, E>(self, future: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        E: From<StartingError>,
    {
        let (Some(left), Some(limit)) = (self.left(), self.limit) else { return future.await };
        timeout(left, future).await.unwrap_or_else(|_| Err((self.late)(limit).into()))
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
    async fn what_is_said_behind_a_report_stays_for_the_keeper() {
        let (ours, mut theirs) = connected_pair().expect("two sockets");
        let started = ControlEvent::Started { listens_at: None };
        let backtrace = Some("frame\n".repeat(1000));
        let panic = PanicReport { message: "at once".to_owned(), location: None, backtrace };
        let panicked = ControlEvent::Panicked(panic).encode();
        let both = [started.encode(), panicked.clone()].concat();
        theirs.write_all(&both).expect("a socket takes some thousand bytes");
        drop(theirs);

        let mut handshake = StartHandshake::new(adopt(ours).expect("there is a runtime"));
        let report = handshake.report().await;

        assert!(report.is_ok_and(|it| it == started));
        let mut left = handshake.control.into_inner().into_std().expect("take a socket from tokio");
        left.set_nonblocking(false).expect("it is open");
        let mut behind = Vec::new();
        left.read_to_end(&mut behind).expect("it is open");
        assert!(behind == panicked, "{} of {} bytes", behind.len(), panicked.len());
    }

    #[tokio::test]
    async fn a_report_that_comes_in_parts_is_one_and_a_panic_before_the_end_is_told() {
        let (ours, mut theirs) = connected_pair().expect("two sockets");
        let message = "at last ".repeat(1000);
        let panic = PanicReport { message, location: None, backtrace: None };
        let hello = ControlEvent::Hello { pid: 7 };
        let said = [ControlEvent::Panicked(panic.clone()).encode(), hello.encode()].concat();
        let mut handshake = StartHandshake::new(adopt(ours).expect("there is a runtime"));

        let saying = async move {
            for part in said.chunks(3) {
                theirs.write_all(part).expect("a socket takes three bytes");
                tokio::task::yield_now().await;
            }
        };
        let (report, ()) = tokio::join!(handshake.report(), saying);
        let end = handshake.report().await;

        assert!(report.is_ok_and(|it| it == hello));
        assert!(matches!(end, Err(HandshakeError::Ended(Some(it))) if it == panic));
    }

    #[test]
    fn who_tells_a_process_what_it_does_not_read_ends_with_the_runtime() {
        let (ours, _theirs) = connected_pair().expect("two sockets");
        let runtime =
            || Builder::new_current_thread().enable_all().build().expect("make a runtime");
        let ending = runtime();
        let mut handshake = ending
            .block_on(async { StartHandshake::new(adopt(ours).expect("there is a runtime")) });
        drop(ending);

        let (ended, end) = channel();
        thread::spawn(move || {
            let _ = runtime().block_on(handshake.send(&[0; 10]));
            ended.send(())
        });

        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(()));
    }
}
