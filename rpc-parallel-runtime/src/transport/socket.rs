//! The two halves of a connected Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rpc_parallel_os::{Direction, Readiness};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg};
use tokio::time::{Sleep, sleep};

use super::busy_poll::BusyPolling;
use super::halves::{Halves, Reader, Writer};
use super::origin::{Origin, Registered};
use super::turn::wake_after_events;
use crate::wire::BusyPoll;

/// The size of the send buffer of a socket that prefers latency, in bytes.
const SMALL_SEND_BUFFER: usize = 16 * 1024;

/// Registers a socket with the current tokio runtime, and splits it into two halves.
pub(crate) fn split(socket: impl Into<OwnedFd>, busy_poll: BusyPoll) -> io::Result<Halves> {
    let socket = UnixStream::from(socket.into());
    socket.set_nonblocking(true)?;
    // The kernel doubles the value that is set, to account for its own overhead.
    let usual_buffer = socket_send_buffer_size(&socket).ok().map(|it| it / 2);
    let socket = Arc::new(OwnedFd::from(socket));
    let reader = SocketReader {
        registered: Registered::new(Readiness::register(socket.clone(), Direction::Read)?),
        polling: BusyPolling::of_task(busy_poll),
        looks: false,
    };
    let writer =
        SocketWriter { socket, usual_buffer, room: Mutex::new(None), origin: Origin::here() };
    Ok((Box::new(reader), Box::new(writer)))
}

/// Reads from a socket. Its descriptor is registered for read readiness only: otherwise each
/// message that the peer reads would wake this process once more.
struct SocketReader {
    registered: Registered<Readiness>,
    polling: BusyPolling,
    /// Whether the next read does not wait for the runtime to report that the socket is ready.
    looks: bool,
}

impl SocketReader {
    /// Reads when the runtime has reported that the socket is ready.
    fn poll_ready_read(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room: usize = buffers.iter().map(|it| it.len()).sum();
        loop {
            let mut ready = ready!(self.registered.poll_ready(cx))?;
            match read(ready.get_inner(), buffers) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(len) => {
                    // The socket is empty. The next bytes make it ready again.
                    if len < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(len));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn found(&mut self, read: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.polling.found(*read.as_ref().unwrap_or(&0), Instant::now);
        Poll::Ready(read)
    }
}

impl Reader for SocketReader {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if mem::take(&mut self.looks) || self.polling.is_polling() {
            match self.try_read(buffers) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.polling.looks_again(Instant::now) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                read => return self.found(read),
            }
        }
        match self.poll_ready_read(cx, buffers) {
            Poll::Ready(read) => self.found(read),
            Poll::Pending => {
                if self.polling.looks_again(Instant::now) {
                    // The tasks that the last bytes have woken run before the next look.
                    wake_after_events(cx);
                }
                Poll::Pending
            }
        }
    }

    fn try_read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        read(self.registered.descriptor(), buffers)
    }

    fn look(&mut self) {
        self.looks = true;
    }
}

fn read(socket: &OwnedFd, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    Ok(match buffers {
        [buffer] => rustix::io::read(socket, &mut **buffer)?,
        buffers => rustix::io::readv(socket, buffers)?,
    })
}

/// Writes to a socket.
struct SocketWriter {
    socket: Arc<OwnedFd>,
    /// The usual size of the send buffer, in bytes, as it is passed to the kernel.
    usual_buffer: Option<usize>,
    /// What waits for free space, from the time when the socket is full until all bytes are written.
    /// Only the driver uses it, so no thread waits for the lock.
    room: Mutex<Option<Room>>,
    origin: Origin,
}

/// What waits for free space of a full socket.
enum Room {
    /// A duplicate of the descriptor, which is registered for write readiness. A runtime registers
    /// each descriptor only once, and that of the reader is registered for read readiness.
    Registered(Registered<Readiness>),
    /// A timer, in a process that has too many open files for a duplicate.
    Timer(Pin<Box<Sleep>>),
}

/// The pause before a write is tried again without a registration.
const ROOM_RETRY: Duration = Duration::from_millis(1);

impl Room {
    fn of(socket: &OwnedFd) -> io::Result<Self> {
        match fcntl_dupfd_cloexec(socket, 3) {
            Ok(duplicate) => {
                let readiness = Readiness::register(Arc::new(duplicate), Direction::Write)?;
                Ok(Self::Registered(Registered::new(readiness)))
            }
            Err(Errno::MFILE | Errno::NFILE) => Ok(Self::Timer(Box::pin(sleep(ROOM_RETRY)))),
            Err(errno) => Err(errno.into()),
        }
    }
}

const LOCK: &str = "no code panics while it holds this lock";

impl Writer for SocketWriter {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(match segments {
            [segment] => rustix::net::send(&self.socket, segment, SendFlags::NOSIGNAL)?,
            segments => {
                let mut no_descriptors = SendAncillaryBuffer::new(&mut []);
                sendmsg(&self.socket, segments, &mut no_descriptors, SendFlags::NOSIGNAL)?
            }
        })
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = self.room.lock().expect(LOCK);
        let waiting = match &mut *room {
            Some(waiting) => waiting,
            None => room.insert(Room::of(&self.socket)?),
        };
        match waiting {
            Room::Registered(registered) => {
                let mut ready = ready!(registered.poll_ready(cx))?;
                // The caller writes until the socket is full again. After that, new free space makes
                // it ready again.
                ready.clear_ready();
            }
            Room::Timer(timer) => {
                ready!(timer.as_mut().poll(cx));
                *room = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Otherwise each message that the peer reads would wake this process.
        let registered = self.room.lock().expect(LOCK).take();
        drop(registered);
        Poll::Ready(Ok(()))
    }

    fn prefer_latency(&self, on: bool) {
        let size = if on { Some(SMALL_SEND_BUFFER) } else { self.usual_buffer };
        if let Some(size) = size {
            // Failure only makes the connection slower.
            let _ = set_socket_send_buffer_size(&self.socket, size);
        }
    }

    fn is_inherited(&self) -> bool {
        self.origin.is_other_process()
    }

    fn close(&self) {
        if self.is_inherited() {
            return;
        }
        // It fails only if the peer has ended the connection already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::future::poll_fn;
    use std::io::{Read, Write};

    use super::*;
    use crate::transport::unix::connected_pair;

    const EPOLLIN: u32 = 1;
    const EPOLLOUT: u32 = 4;

    /// Returns the directions for which the runtimes of this process watch sockets with this inode.
    fn watched(inode: u64) -> BTreeSet<u32> {
        let mut directions = BTreeSet::new();
        for entry in fs::read_dir("/proc/self/fdinfo").expect("list the descriptors") {
            let path = entry.expect("read an entry of /proc").path();
            // Descriptors of tests that run at the same time are closed meanwhile.
            let info = fs::read_to_string(path).unwrap_or_default();
            for line in info.lines().filter(|it| it.starts_with("tfd:")) {
                let words: Vec<_> = line.split_whitespace().collect();
                // tfd: 7 events: 80002001 data: 7f0c pos:0 ino:1f sdev:9
                let is_searched = words.contains(&format!("ino:{inode:x}").as_str());
                if is_searched {
                    let mask = u32::from_str_radix(words[3], 16).expect("parse the mask");
                    directions.insert(mask & (EPOLLIN | EPOLLOUT));
                }
            }
        }
        directions
    }

    #[tokio::test]
    async fn full_socket_is_watched_for_writing_until_drained() {
        let (here, mut there) = connected_pair().expect("make two sockets");
        let inode = rustix::fs::fstat(&here).expect("stat a socket").st_ino;
        let (_reader, writer) = split(here, BusyPoll::Never).expect("register a socket");
        let before = watched(inode);

        let mut written = 0;
        while let Ok(len) = writer.try_write(&[IoSlice::new(&[7; 1000])]) {
            written += len;
        }
        let full = poll_fn(|cx| Poll::Ready(writer.poll_writable(cx).is_pending())).await;
        let during = watched(inode);
        there.read_exact(&mut vec![0; written]).expect("read what was written");
        poll_fn(|cx| writer.poll_writable(cx)).await.expect("the runtime runs");
        poll_fn(|cx| writer.poll_flush(cx)).await.expect("the runtime runs");
        let after = watched(inode);

        assert!(full, "nothing was read");
        assert_eq!(before, BTreeSet::from([EPOLLIN]));
        assert_eq!(during, BTreeSet::from([EPOLLIN, EPOLLOUT]));
        assert_eq!(after, before);
    }

    #[tokio::test]
    async fn reader_that_looks_finds_bytes_before_runtime_does() {
        let (here, mut there) = connected_pair().expect("make two sockets");
        let (mut reader, _writer) = split(here, BusyPoll::Never).expect("register a socket");
        let mut buffer = [0; 10];

        let polls = poll_fn(|cx| {
            let mut read = |reader: &mut dyn Reader| {
                reader.poll_read(cx, &mut [IoSliceMut::new(&mut buffer)]).map(Result::ok)
            };
            there.write_all(b"hello").expect("write five bytes");
            let without_look = read(&mut *reader);
            reader.look();
            Poll::Ready([without_look, read(&mut *reader)])
        })
        .await;

        assert_eq!(polls, [Poll::Pending, Poll::Ready(Some(5))]);
    }

    #[tokio::test]
    async fn bytes_received_before_close_are_read() {
        let (here, mut there) = connected_pair().expect("make two sockets");
        let (mut reader, writer) = split(here, BusyPoll::Never).expect("register a socket");
        there.write_all(b"hello").expect("a socket takes five bytes");
        let mut buffer = [0; 10];

        writer.close();

        let mut read = async || {
            let mut buffers = [IoSliceMut::new(&mut buffer)];
            poll_fn(|cx| reader.poll_read(cx, &mut buffers)).await.expect("the socket is there")
        };
        assert_eq!((read().await, read().await), (5, 0));
    }
}
