//! The handshake of a connection: the caller sends a greeting with its build and the id of the
//! worker, and the worker accepts or refuses.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use super::inbox::Inbox;
use super::traffic::Traffic;
use super::writing::{TransmitWriter, WriteError, poll_flush};
use crate::protocol::Transmit;
use crate::transport::{Halves, Reader, Writer};
use crate::wire::{
    Frame, FrameError, FrameWriter, FunctionInfo, Greeting, MalformedMessage, ReceiveLimits,
    Refusal, Settings, Signature, TooLarge, WorkerId, read_message,
};

/// The maximum number of bytes that are received ahead of the frames that are handled.
pub(super) const READ_AHEAD: usize = 1024 * 1024;

/// A connection during its handshake.
pub(crate) struct Opening {
    pub(super) reader: Box<dyn Reader>,
    pub(super) writer: Box<dyn Writer>,
    pub(super) inbox: Inbox,
    /// The frames of the handshake that are being written.
    pub(super) transmit: Transmit,
    transmit_writer: TransmitWriter,
    pub(super) traffic: &'static Traffic,
    pub(super) settings: Settings,
    /// The limits that the peer has announced. `None` until its part of the handshake has arrived.
    peer_limits: Option<ReceiveLimits>,
}

/// The request of a connecting process.
pub(crate) struct Request {
    pub(crate) greeting: Greeting,
    pub(crate) worker: WorkerId,
    /// The argument of the connection's `init`. `None` for a connection without a state, which only
    /// calls the built-in functions that all workers have.
    pub(crate) init: Option<Vec<u8>>,
    /// The signatures that a caller of another program expects.
    pub(crate) functions: Option<Vec<Signature>>,
}

/// Encodes the introduction of a caller that is another program than the worker. It precedes the
/// request.
pub(crate) fn encode_introduction(functions: &[FunctionInfo]) -> Result<Vec<u8>, OpeningError> {
    let functions: Vec<_> = functions.iter().map(Signature::of).collect();
    let mut introduction = Vec::new();
    FrameWriter::introduce(&mut introduction).own_message(&functions)?;
    Ok(introduction)
}

/// The handshake of a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    #[error("failed to decode the functions of the other program")]
    Introduction(#[from] MalformedMessage),
    #[error("the connection's `init` argument is too large")]
    TooLarge(#[from] TooLarge),
    #[error("the worker refused the connection")]
    Refused(Refusal),
    #[error("the peer closed the connection during the handshake")]
    Ended,
    #[error("no handshake message within {within:?}")]
    TimedOut { within: Duration },
    #[error("the peer broke the protocol of rpc-parallel")]
    Frame(#[from] FrameError),
    #[error("failed to read from or write to the socket")]
    Socket(#[from] io::Error),
}

/// Encodes the request for a connection to a worker.
pub(crate) fn encode_request(
    worker: WorkerId,
    greeting: Greeting,
    init: &[u8],
    settings: Settings,
) -> Result<Vec<u8>, OpeningError> {
    let mut request = Vec::new();
    FrameWriter::connect(&mut request, greeting, worker, ReceiveLimits::of(&settings))
        .message(|sink| Ok::<_, OpeningError>(sink.write_all(init)?))?;
    Ok(request)
}

/// Encodes the request for a connection without a state, on which only built-in functions are
/// called.
pub(crate) fn encode_control_request(
    worker: WorkerId,
    greeting: Greeting,
    settings: Settings,
) -> Vec<u8> {
    let mut request = Vec::new();
    let limits = ReceiveLimits::of(&settings);
    FrameWriter::connect_control(&mut request, greeting, worker, limits).finish();
    request
}

/// The reply to a request, if it is not a refusal.
enum Reply {
    /// The request was received, and the decision takes time.
    Acknowledged,
    /// The connection is accepted. The limits are those of the worker.
    Accepted(ReceiveLimits),
}

impl Opening {
    pub(crate) fn new(halves: Halves, settings: Settings) -> Self {
        Self::counted_by(Traffic::here(), halves, settings)
    }

    pub(super) fn counted_by(
        traffic: &'static Traffic,
        (reader, writer): Halves,
        settings: Settings,
    ) -> Self {
        Self {
            reader,
            writer,
            inbox: Inbox::new(settings.max_message_size(), traffic),
            transmit: Transmit::default(),
            transmit_writer: TransmitWriter::default(),
            traffic,
            settings,
            peer_limits: None,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns the limits that the peer has announced.
    ///
    /// # Panics
    ///
    /// Panics before [`connect`](Self::connect) or [`receive_request`](Self::receive_request) has
    /// succeeded.
    pub(super) fn peer_limits(&self) -> ReceiveLimits {
        self.peer_limits.expect("the peer has announced its limits in the handshake")
    }

    /// Sends a request of [`encode_request`], or the rest of one, and waits until the peer accepts.
    ///
    /// The peer must acknowledge the request within the `handshake_timeout`. Its decision may take
    /// any time. Calls are sent only after that, because their limits are not known before.
    pub(crate) async fn connect(&mut self, request: &[u8]) -> Result<(), OpeningError> {
        self.transmit.append(request);
        let first = self.within_handshake(async |it| {
            // A peer that refuses may have closed its end. Its refusal can still be read.
            let write_error = match it.write().await {
                Ok(()) => None,
                Err(WriteError::PeerGone(error)) => Some(error),
                Err(WriteError::Fatal(error)) => return Err(error.into()),
            };
            match (it.reply().await, write_error) {
                (Err(OpeningError::Ended), Some(error)) => Err(error.into()),
                (reply, _) => reply,
            }
        });
        let limits = match first.await? {
            Reply::Accepted(limits) => limits,
            Reply::Acknowledged => match self.reply().await? {
                Reply::Accepted(limits) => limits,
                Reply::Acknowledged => {
                    return Err(FrameError::OutOfPlace(Frame::Acknowledge.describe()).into());
                }
            },
        };
        self.peer_limits = Some(limits);
        Ok(())
    }

    async fn reply(&mut self) -> Result<Reply, OpeningError> {
        let reply = self.first_frame(|frame| match frame {
            Frame::Acknowledge => Ok(Reply::Acknowledged),
            Frame::Welcome { limits } => Ok(Reply::Accepted(limits)),
            Frame::Refuse { refusal } => Err(match read_message(refusal) {
                Ok(refusal) => OpeningError::Refused(refusal),
                Err(_) => FrameError::OutOfPlace("undecodable refusal").into(),
            }),
            _ => Err(FrameError::OutOfPlace("frame before the welcome").into()),
        });
        reply.await?
    }

    /// Receives the request of the peer, within the `handshake_timeout`.
    pub(crate) async fn receive_request(&mut self) -> Result<Request, OpeningError> {
        self.within_handshake(async |it| it.request().await).await
    }

    async fn request(&mut self) -> Result<Request, OpeningError> {
        let mut functions = None;
        loop {
            let read = self.first_frame(|frame| match frame {
                Frame::Introduce { functions: list } if functions.is_none() => {
                    functions = Some(read_message(list)?);
                    Ok(None)
                }
                Frame::Connect { greeting, worker, limits, init } => {
                    let functions = functions.take();
                    let init = Some(init.to_vec());
                    Ok(Some((Request { greeting, worker, init, functions }, limits)))
                }
                Frame::ConnectControl { greeting, worker, limits } => {
                    let request = Request { greeting, worker, init: None, functions: None };
                    Ok(Some((request, limits)))
                }
                _ => Err(OpeningError::from(FrameError::OutOfPlace("frame before the greeting"))),
            });
            if let Some((request, limits)) = read.await?? {
                self.peer_limits = Some(limits);
                return Ok(request);
            }
        }
    }

    /// Waits for the decision about a request. If it is not ready at once, the request is
    /// acknowledged first.
    ///
    /// # Errors
    ///
    /// The peer closed the connection or the socket failed before the decision, which is dropped.
    pub(crate) async fn decide<T>(
        &mut self,
        decision: impl Future<Output = T>,
    ) -> Result<T, OpeningError> {
        let mut decision = pin!(decision);
        let mut acknowledged = false;
        poll_fn(|cx| {
            if let Poll::Ready(decided) = decision.as_mut().poll(cx) {
                return Poll::Ready(Ok(decided));
            }
            if !acknowledged {
                let mut frame = Vec::new();
                FrameWriter::acknowledge(&mut frame).finish();
                self.transmit.append(&frame);
                acknowledged = true;
            }
            match self.poll_write(cx) {
                // The end of the stream is detected after all frames of the peer are read.
                Poll::Ready(Err(WriteError::PeerGone(_))) => self.transmit.skip(),
                Poll::Ready(Err(WriteError::Fatal(error))) => {
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // Frames that the peer sends early are buffered.
            while self.inbox.decoder.waiting() < READ_AHEAD {
                if !ready!(self.inbox.poll_receive(&mut *self.reader, cx))? {
                    return Poll::Ready(Err(OpeningError::Ended));
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn within_handshake<T>(
        &mut self,
        step: impl AsyncFnOnce(&mut Self) -> Result<T, OpeningError>,
    ) -> Result<T, OpeningError> {
        let within = self.settings.handshake_timeout();
        let result = timeout(within, step(self)).await;
        result.unwrap_or(Err(OpeningError::TimedOut { within }))
    }

    /// Refuses the connection, and sends the reason to the peer.
    pub(crate) async fn refuse(mut self, refusal: &Refusal) -> Result<(), OpeningError> {
        let mut frame = Vec::new();
        if write_refusal(&mut frame, refusal).is_err() {
            write_refusal(&mut frame, &refusal.shortened())?;
        }
        self.transmit.append(&frame);
        self.write().await.map_err(|it| io::Error::from(it).into())
    }

    async fn first_frame<T>(
        &mut self,
        read: impl FnOnce(Frame<'_>) -> T,
    ) -> Result<T, OpeningError> {
        loop {
            if let Some(frame) = self.inbox.decoder.next_frame()? {
                return Ok(read(frame));
            }
            let Self { inbox, reader, .. } = self;
            if !poll_fn(|cx| inbox.poll_receive(&mut **reader, cx)).await? {
                return Err(OpeningError::Ended);
            }
        }
    }

    async fn write(&mut self) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let Self { transmit_writer, transmit, writer, traffic, .. } = self;
        ready!(transmit_writer.poll_write(transmit, &**writer, traffic, cx))?;
        poll_flush(&**writer, cx)
    }
}

fn write_refusal(buffer: &mut Vec<u8>, refusal: &Refusal) -> Result<(), TooLarge> {
    FrameWriter::refuse(buffer).own_message(refusal)
}
