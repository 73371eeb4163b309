//! A multiplexed stream over two descriptors, and the transports of its channels.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, ioctl_fionbio, read, write};

use super::machine::{CONTROL, Machine};
use crate::transport::halves::{Halves, Reader, Writer};
use crate::transport::origin::Origin;

/// The number of bytes that are read at once.
const READ: usize = 64 * 1024;

const LOCK: &str = "no thread panics while it holds this lock";

/// One end of a multiplexed stream. The thread that owns it calls [`pump`](Self::pump) whenever its
/// epoll instance has an event of the stream.
pub(crate) struct Multiplexer {
    machine: Mutex<Machine>,
    incoming: OwnedFd,
    outgoing: OwnedFd,
    /// The bytes that are being written. Only one thread at a time writes.
    unwritten: Mutex<Vec<u8>>,
    registration: OnceLock<Registration>,
    origin: Origin,
}

/// Where the events of the stream go.
struct Registration {
    epoll: Arc<OwnedFd>,
    /// The data of the events.
    data: u64,
}

impl Multiplexer {
    /// Makes one end of a stream. `accepts` is whether the peer opens the channels.
    ///
    /// # Errors
    ///
    /// The descriptors cannot be made non-blocking.
    pub(crate) fn new(incoming: OwnedFd, outgoing: OwnedFd, accepts: bool) -> io::Result<Self> {
        ioctl_fionbio(&incoming, true)?;
        ioctl_fionbio(&outgoing, true)?;
        Ok(Self {
            machine: Mutex::new(Machine::new(accepts)),
            incoming,
            outgoing,
            unwritten: Mutex::default(),
            registration: OnceLock::new(),
            origin: Origin::here(),
        })
    }

    /// Registers the stream with an epoll instance, whose events have this data. It is called once.
    pub(crate) fn register(&self, epoll: &Arc<OwnedFd>, data: u64) -> io::Result<()> {
        let event_data = EventData::new_u64(data);
        epoll::add(epoll, &self.incoming, event_data, EventFlags::IN)?;
        // Armed when the stream has no room.
        epoll::add(epoll, &self.outgoing, event_data, EventFlags::ONESHOT)?;
        let _ = self.registration.set(Registration { epoll: epoll.clone(), data });
        self.write_queued();
        Ok(())
    }

    /// Removes the stream from its epoll instance.
    pub(crate) fn deregister(&self) {
        if let Some(Registration { epoll, .. }) = self.registration.get() {
            let _ = epoll::delete(epoll, &self.incoming);
            let _ = epoll::delete(epoll, &self.outgoing);
        }
    }

    /// Reads the bytes that have arrived, writes those that are queued, and wakes the tasks that
    /// wait for either.
    pub(crate) fn pump(&self) {
        let mut buffer = vec![0; READ];
        match read(&self.incoming, &mut buffer[..]) {
            Ok(0) => self.with(Machine::end),
            Ok(len) => self.with(|machine| {
                if machine.receive(&buffer[..len]).is_err() {
                    machine.end();
                }
            }),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.with(Machine::end),
        }
        self.write_queued();
    }

    /// Opens a channel, and returns its transport.
    pub(crate) fn channel(self: &Arc<Self>, id: u32) -> Halves {
        self.with(|it| it.open(id));
        let channel = Arc::new(Channel { id, stream: self.clone() });
        (Box::new(ChannelReader(channel.clone())), Box::new(ChannelWriter(channel)))
    }

    /// Sends bytes of the control connection.
    ///
    /// # Errors
    ///
    /// The stream has ended.
    pub(crate) fn send_control(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|it| it.write(CONTROL, &[IoSlice::new(bytes)]))?;
        self.write_queued();
        Ok(())
    }

    /// Receives bytes of the control connection that [`pump`](Self::pump) has read. No bytes are the
    /// end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` means that no bytes have arrived.
    pub(crate) fn receive_control(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.with(|it| it.read(CONTROL, &mut [IoSliceMut::new(buffer)], None));
        self.write_queued();
        received
    }

    /// Ends the stream in this process. The peer notices it when all descriptors of the stream are
    /// closed.
    pub(crate) fn end(&self) {
        if self.origin.is_other_process() {
            return;
        }
        self.with(Machine::end);
        // It has no effect on a pipe, which is closed with its last descriptor.
        let _ = rustix::net::shutdown(&self.outgoing, rustix::net::Shutdown::Write);
    }

    /// Writes queued bytes until there are none, or the stream has no room.
    fn write_queued(&self) {
        self.write_under_lock();
        // Woken without the lock of the writer.
        self.with(|_| ());
    }

    fn write_under_lock(&self) {
        let mut unwritten = self.unwritten.lock().expect(LOCK);
        loop {
            if unwritten.is_empty() {
                self.machine().transmit(&mut unwritten);
            }
            if unwritten.is_empty() {
                return;
            }
            match write(&self.outgoing, &unwritten) {
                Ok(written) => drop(unwritten.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if let Some(Registration { epoll, data }) = self.registration.get() {
                        let flags = EventFlags::OUT | EventFlags::ONESHOT;
                        let data = EventData::new_u64(*data);
                        let _ = epoll::modify(epoll, &self.outgoing, data, flags);
                    }
                    return;
                }
                Err(_) => {
                    unwritten.clear();
                    return self.machine().end();
                }
            }
        }
    }

    /// Uses the machine, and wakes tasks after its lock was released.
    fn with<T>(&self, run: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine();
        let result = run(&mut machine);
        let wakers = machine.take_wakers();
        drop(machine);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect(LOCK)
    }
}

/// One channel, which is closed when its transport is dropped.
struct Channel {
    id: u32,
    stream: Arc<Multiplexer>,
}

impl Channel {
    fn close(&self) {
        if !self.stream.origin.is_other_process() {
            self.stream.with(|it| it.close(self.id));
            self.stream.write_queued();
        }
    }

    fn read(&self, buffers: &mut [IoSliceMut<'_>], waker: Option<&Waker>) -> io::Result<usize> {
        let read = self.stream.with(|it| it.read(self.id, buffers, waker));
        if read.is_ok() {
            // The peer may get credit.
            self.stream.write_queued();
        }
        read
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

struct ChannelReader(Arc<Channel>);

impl Reader for ChannelReader {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0.read(buffers, Some(cx.waker())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    fn try_read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read(buffers, None)
    }
}

struct ChannelWriter(Arc<Channel>);

impl Writer for ChannelWriter {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let Channel { id, stream } = &*self.0;
        let written = stream.with(|it| it.write(*id, segments))?;
        stream.write_queued();
        Ok(written)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Channel { id, stream } = &*self.0;
        match stream.with(|it| it.poll_writable(*id, cx.waker())) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream sends the bytes as soon as it has room.
        Poll::Ready(Ok(()))
    }

    fn prefer_latency(&self, _: bool) {}

    fn is_inherited(&self) -> bool {
        self.0.stream.origin.is_other_process()
    }

    fn close(&self) {
        self.0.close();
    }
}
