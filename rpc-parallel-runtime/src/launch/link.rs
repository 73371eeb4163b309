//! How the control connection reaches a worker process: by a socket, or by its standard streams.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

use super::control_command::ReceivedCommand;
use crate::transport::{Fault, Multiplexer, receive, send};

/// The worker's end of the bytes of its control connection.
pub(super) enum Link {
    /// A socket, which also carries descriptors.
    Socket(OwnedFd),
    /// A stream of bytes, whose channels are the connections of the worker.
    Stream(StreamLink),
}

/// What has ended a wait. All are false after the timeout.
#[derive(Clone, Copy)]
pub(super) struct Woken {
    /// Whether [`Link::receive`] returns without blocking.
    pub(super) by_command: bool,
    /// Whether the other event has arrived.
    pub(super) by_other: bool,
}

impl Woken {
    const BY_COMMAND: Self = Self { by_command: true, by_other: false };
}

/// A multiplexed stream, and the commands that it has received.
pub(super) struct StreamLink {
    stream: Arc<Multiplexer>,
    epoll: Arc<OwnedFd>,
    received: Mutex<ReceivedCommands>,
}

#[derive(Default)]
struct ReceivedCommands {
    unparsed: Vec<u8>,
    commands: VecDeque<ReceivedCommand>,
    has_ended: bool,
}

impl Link {
    /// Makes a link of the two directions of a stream.
    pub(super) fn stream(incoming: OwnedFd, outgoing: OwnedFd) -> io::Result<Self> {
        let stream = Arc::new(Multiplexer::new(incoming, outgoing, true)?);
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        stream.register(&epoll, 0)?;
        Ok(Self::Stream(StreamLink { stream, epoll, received: Mutex::default() }))
    }

    /// Returns whether the master has access to this process only by the link.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    ///
    /// The master has not received the bytes, or only the beginning of them.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Socket(socket) => send(socket, bytes, &[]),
            Self::Stream(link) => link.stream.send_control(bytes),
        }
    }

    /// Blocks until `bytes` are received, and appends the descriptors that came with them. Returns
    /// fewer bytes if the connection has ended.
    pub(super) fn fill(
        &self,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => receive(socket, bytes, descriptors),
            Self::Stream(link) => link.fill(bytes),
        }
    }

    /// Blocks until a command or the other event may have arrived, or until the timeout.
    pub(super) fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        timeout: Option<&Timespec>,
    ) -> Result<Woken, Errno> {
        let own = match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Stream(link) if link.is_ready() => return Ok(Woken::BY_COMMAND),
            Self::Stream(link) => link.epoll.as_fd(),
        };
        let mut watched = vec![PollFd::from_borrowed_fd(own, PollFlags::IN)];
        watched.extend(other.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN)));
        poll(&mut watched, timeout)?;
        let mut ready = watched.iter().map(|it| !it.revents().is_empty());
        let (own, other) = (ready.next() == Some(true), ready.next() == Some(true));
        let by_command = match self {
            Self::Socket(_) => own,
            Self::Stream(link) => own && link.wait(None)?,
        };
        Ok(Woken { by_command, by_other: other })
    }

    /// Returns the next command. Returns `None` after the end of the connection.
    pub(super) fn receive(&self) -> io::Result<Option<ReceivedCommand>> {
        match self {
            Self::Socket(socket) => ReceivedCommand::receive(socket),
            Self::Stream(link) => loop {
                if let Some(command) = link.received().commands.pop_front() {
                    return Ok(Some(command));
                } else if link.received().has_ended {
                    return Ok(None);
                }
                match link.wait(None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            },
        }
    }

    /// Returns whether the master has closed its end. A stream reports it later.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Socket(socket) => {
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                let mut end = [PollFd::new(socket, PollFlags::empty())];
                matches!(poll(&mut end, Some(&now)), Ok(ready) if ready > 0)
            }
            Self::Stream(_) => false,
        }
    }

    /// Blocks until the master has closed its end of the socket.
    pub(super) fn wait_for_end(&self) {
        if let Self::Socket(socket) = self {
            while poll(&mut [PollFd::new(socket, PollFlags::empty())], None).is_err() {}
        }
    }
}

impl StreamLink {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.receive_control(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if Fault::of(&error) == Fault::NotReady => match self.pump(None) {
                    Ok(()) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Waits for an event of the stream, and moves its bytes.
    fn pump(&self, timeout: Option<&Timespec>) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(4);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout)?;
        if !events.is_empty() {
            self.stream.pump();
        }
        Ok(())
    }

    /// Waits for an event of the stream, and returns whether a command has arrived.
    fn wait(&self, timeout: Option<&Timespec>) -> Result<bool, Errno> {
        if !self.is_ready() {
            self.pump(timeout)?;
        }
        Ok(self.is_ready())
    }

    fn is_ready(&self) -> bool {
        self.parse();
        self.received().is_ready()
    }

    /// Decodes the commands that have been received.
    fn parse(&self) {
        let mut received = self.received();
        let mut buffer = [0; 1024];
        loop {
            match self.stream.receive_control(&mut buffer) {
                Ok(0) => received.has_ended = true,
                Ok(len) => {
                    received.unparsed.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) if Fault::of(&error) == Fault::NotReady => {}
                Err(_) => received.has_ended = true,
            }
            break;
        }
        loop {
            let channel = |id| self.stream.channel(id);
            match ReceivedCommand::decode(&received.unparsed, channel) {
                Ok(Some((command, len))) => {
                    received.unparsed.drain(..len);
                    received.commands.push_back(command);
                }
                Ok(None) => return,
                // The commands after an unknown one cannot be found.
                Err(_) => {
                    received.has_ended = true;
                    return;
                }
            }
        }
    }

    fn received(&self) -> MutexGuard<'_, ReceivedCommands> {
        self.received.lock().expect("no thread panics while it holds this lock")
    }
}

impl ReceivedCommands {
    fn is_ready(&self) -> bool {
        !self.commands.is_empty() || self.has_ended
    }
}
