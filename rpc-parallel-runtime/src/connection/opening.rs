//! The first words of a connection: who calls whom, with which build.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use super::inbox::Inbox;
use super::outbox::{Outbox, WriteError, Writing};
use super::serving::AHEAD;
use super::traffic::Traffic;
use crate::transport::{Halves, Reader};
use crate::wire::{
    Frame, FrameError, FrameWriter, FunctionInfo, Greeting, MalformedMessage, Refusal, Settings,
    Signature, TooLarge, WorkerId, read_message,
};

/// A connection on which the conversation has not begun.
pub(crate) struct Opening {
    pub(super) reader: Box<dyn Reader>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) writing: Writing,
    pub(super) settings: Settings,
}

/// What the one who connects has asked for.
pub(crate) struct Request {
    pub(crate) greeting: Greeting,
    pub(crate) worker: WorkerId,
    /// What the state of the connection is made of; none if it needs no state, because nothing will
    /// be called but what all workers can be asked.
    pub(crate) init: Option<Vec<u8>>,
    /// The functions of another program, as it knows them.
    pub(crate) functions: Option<Vec<Signature>>,
}

/// Makes the words of who does not belong to the worker's program, to be said before all others.
pub(crate) fn introduce(functions: &[FunctionInfo]) -> Result<Vec<u8>, OpeningError> {
    let functions: Vec<_> = functions.iter().map(Signature::of).collect();
    let mut words = Vec::new();
    FrameWriter::introduce(&mut words).own_message(&functions)?;
    Ok(words)
}

/// A connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    #[error("failed to read the functions of another program")]
    Introduction(#[from] MalformedMessage),
    #[error("the connection's `init` argument is too large")]
    TooLarge(#[from] TooLarge),
    #[error("the worker refused")]
    Refused(Refusal),
    #[error("the worker closed the connection without a word")]
    Ended,
    #[error("nothing was said within {within:?}")]
    TimedOut { within: Duration },
    #[error("read what is no conversation of rpc-parallel")]
    Frame(#[from] FrameError),
    #[error("failed to read from or write to the socket")]
    Socket(#[from] io::Error),
}

/// Makes the first words of who wants a connection with one worker.
pub(crate) fn ask_for(
    worker: WorkerId,
    greeting: Greeting,
    init: &[u8],
    settings: Settings,
) -> Result<Vec<u8>, OpeningError> {
    let mut ask = Vec::new();
    FrameWriter::connect(&mut ask, greeting, worker, settings.max_message_size())
        .message(|sink| Ok::<_, OpeningError>(sink.write_all(init)?))?;
    Ok(ask)
}

/// Makes the first words of who wants nothing of a worker but what all workers can be asked.
pub(crate) fn request_control(worker: WorkerId, greeting: Greeting) -> Vec<u8> {
    let mut ask = Vec::new();
    FrameWriter::connect_control(&mut ask, greeting, worker).finish();
    ask
}

/// What is said to who has asked for a connection, if it is not refused.
enum Reply {
    /// There may be one, but that takes time.
    Heard,
    Welcome,
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
            inbox: Inbox::new(settings.max_message_size(), traffic),
            outbox: Outbox::new(writer, traffic),
            writing: Writing::default(),
            settings,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Asks for a connection by what [`ask_for`] has made, or what of it has not been written yet,
    /// and waits until it is welcome.
    ///
    /// The other side must have heard it within the `handshake_timeout`. What it then does to
    /// decide may take any time.
    pub(crate) async fn connect(&mut self, ask: &[u8]) -> Result<(), OpeningError> {
        self.writing.buffer().extend_from_slice(ask);
        let first = self.within_handshake(async |it| {
            // A peer that refuses has perhaps ended its side already: its reason still counts.
            let gone = match it.write().await {
                Ok(()) => None,
                Err(WriteError::PeerGone(error)) => Some(error),
                Err(WriteError::Fatal(error)) => return Err(error.into()),
            };
            match (it.reply().await, gone) {
                (Err(OpeningError::Ended), Some(error)) => Err(error.into()),
                (reply, _) => reply,
            }
        });
        match first.await? {
            Reply::Welcome => Ok(()),
            Reply::Heard => match self.reply().await? {
                Reply::Welcome => Ok(()),
                Reply::Heard => Err(FrameError::OutOfPlace(Frame::Acknowledge.describe()).into()),
            },
        }
    }

    async fn reply(&mut self) -> Result<Reply, OpeningError> {
        let reply = self.first_frame(|frame| match frame {
            Frame::Acknowledge => Ok(Reply::Heard),
            Frame::Welcome => Ok(Reply::Welcome),
            Frame::Refuse { refusal } => Err(match read_message(refusal) {
                Ok(refusal) => OpeningError::Refused(refusal),
                Err(_) => FrameError::OutOfPlace("undecodable refusal").into(),
            }),
            _ => Err(FrameError::OutOfPlace("frame before the welcome").into()),
        });
        reply.await?
    }

    /// Waits for what the other side asks for; it must say so within the `handshake_timeout`.
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
                Frame::Connect { greeting, worker, init } => {
                    let functions = functions.take();
                    Ok(Some(Request { greeting, worker, init: Some(init.to_vec()), functions }))
                }
                Frame::ConnectControl { greeting, worker } => {
                    Ok(Some(Request { greeting, worker, init: None, functions: None }))
                }
                _ => Err(OpeningError::from(FrameError::OutOfPlace("frame before the greeting"))),
            });
            if let Some(request) = read.await?? {
                return Ok(request);
            }
        }
    }

    /// Waits for what decides about a request. Where that is not ready at once the other side is
    /// told meanwhile that it was heard.
    ///
    /// # Errors
    ///
    /// The other side is gone, or the socket failed, before it is decided; what would decide is
    /// dropped then.
    pub(crate) async fn decide<T>(
        &mut self,
        decision: impl Future<Output = T>,
    ) -> Result<T, OpeningError> {
        let mut decision = pin!(decision);
        let mut told = false;
        poll_fn(|cx| {
            if let Poll::Ready(decided) = decision.as_mut().poll(cx) {
                return Poll::Ready(Ok(decided));
            }
            if !told {
                FrameWriter::acknowledge(self.writing.buffer()).finish();
                told = true;
            }
            match self.writing.poll_write(&self.outbox, cx) {
                // Only reading tells when what it has said was all.
                Poll::Ready(Err(WriteError::PeerGone(_))) => self.writing.forget_all(),
                Poll::Ready(Err(WriteError::Fatal(error))) => {
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // What is said already is kept for the conversation.
            while self.inbox.waiting() < AHEAD {
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
        talk: impl AsyncFnOnce(&mut Self) -> Result<T, OpeningError>,
    ) -> Result<T, OpeningError> {
        let within = self.settings.handshake_timeout();
        let talked = timeout(within, talk(self)).await;
        talked.unwrap_or(Err(OpeningError::TimedOut { within }))
    }

    /// Tells the other side why there will be no conversation.
    pub(crate) async fn refuse(mut self, refusal: &Refusal) -> Result<(), OpeningError> {
        let buffer = self.writing.buffer();
        write_refusal(buffer, refusal).or_else(|_| write_refusal(buffer, &refusal.shortened()))?;
        self.write().await.map_err(|it| io::Error::from(it).into())
    }

    async fn first_frame<T>(
        &mut self,
        read: impl FnOnce(Frame<'_>) -> T,
    ) -> Result<T, OpeningError> {
        loop {
            if let Some(frame) = self.inbox.next_frame()? {
                return Ok(read(frame));
            }
            let Self { inbox, reader, .. } = self;
            if !poll_fn(|cx| inbox.poll_receive(&mut **reader, cx)).await? {
                return Err(OpeningError::Ended);
            }
        }
    }

    async fn write(&mut self) -> Result<(), WriteError> {
        let Self { writing, outbox, .. } = self;
        poll_fn(|cx| writing.poll_write(outbox, cx)).await
    }
}

fn write_refusal(buffer: &mut Vec<u8>, refusal: &Refusal) -> Result<(), TooLarge> {
    FrameWriter::refuse(buffer).own_message(refusal)
}
