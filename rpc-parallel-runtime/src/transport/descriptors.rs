//! Sends and receives bytes with file descriptors over a blocking Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::fault::{Backoff, Fault};

/// The largest number of descriptors that one message carries.
const MAX_DESCRIPTORS: usize = 4;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// The time for which an operation that fails with transient faults is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends all of `bytes`. The descriptors accompany the first byte.
///
/// While the kernel lacks memory, the function blocks the thread and retries, for at most 1 s.
///
/// # Errors
///
/// [`Fault::PeerGone`] means that the peer has closed its end. Bytes that it sent before can still
/// be received. After any other error the peer has received nothing, or only the beginning of a
/// message that is longer than the free space of the socket. In the second case the peer would take
/// the next message for the rest of this one.
pub(crate) fn send(
    socket: impl AsFd,
    mut bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!(
            "failed to send {} descriptors: a message carries at most {MAX_DESCRIPTORS}",
            descriptors.len()
        )));
    }
    let mut retries = Retries::begin();
    while !bytes.is_empty() {
        let slices = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(&socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                bytes = &bytes[sent..];
                ancillary.clear();
            }
            Err(errno) => retries.wait_after(errno.into())?,
        }
    }
    Ok(())
}

/// Sends as many bytes as the socket has room for, without blocking and without retrying.
///
/// # Errors
///
/// Nothing was sent. [`Fault::of`] classifies the error.
pub(crate) fn try_send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// The retries of one blocking operation.
struct Retries {
    began: Option<Instant>,
    backoff: Backoff,
}

impl Retries {
    fn begin() -> Self {
        Self { began: None, backoff: Backoff::default() }
    }

    /// Blocks the thread before the next attempt, after a transient fault.
    ///
    /// # Errors
    ///
    /// The fault is not transient, or the operation was retried for [`RETRY_TIMEOUT`].
    fn wait_after(&mut self, error: io::Error) -> io::Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if Fault::of(&error) != Fault::Transient || began.elapsed() >= RETRY_TIMEOUT {
            return Err(error);
        }
        // After a signal the next attempt needs no pause.
        if error.kind() != io::ErrorKind::Interrupted {
            thread::sleep(self.backoff.pause());
        }
        Ok(())
    }
}

/// Fills `bytes` unless the peer ends the stream before, and appends the received descriptors.
///
/// Returns the number of received bytes.
///
/// # Errors
///
/// As [`receive_some`].
pub(crate) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match receive_some(&socket, &mut bytes[filled..], descriptors)? {
            0 => break,
            received => filled += received,
        }
    }
    Ok(filled)
}

/// Receives bytes once, or one message of a socket that keeps the boundaries of messages, and appends
/// the received descriptors.
///
/// Returns the number of received bytes, 0 at the end of the stream. The descriptors are
/// close-on-exec. While the kernel lacks memory, the function blocks the thread and retries, for at
/// most 1 s.
///
/// # Errors
///
/// [`Fault::of`] classifies an error of the socket. Another error means that the kernel has
/// discarded descriptors, because this process has too many open files.
pub(crate) fn receive_some(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut retries = Retries::begin();
    loop {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(bytes)];
        let received =
            rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let received = match received {
            Ok(received) => received,
            Err(errno) => {
                retries.wait_after(errno.into())?;
                continue;
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        // The kernel discards descriptors that it cannot install, and reports it only by this flag.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "failed to receive descriptors: too many open files in this process",
            ));
        }
        return Ok(received.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sent_descriptor_refers_to_same_socket() {
        let (here, there) = UnixStream::pair().expect("two sockets");
        let (mut kept, given) = UnixStream::pair().expect("two sockets");
        send(&here, b"take it", &[given.as_fd()]).expect("a socket takes seven bytes");

        let (mut bytes, mut descriptors) = ([0; 7], Vec::new());
        let received =
            receive(&there, &mut bytes, &mut descriptors).expect("seven bytes are there");

        assert_eq!((received, &bytes), (7, b"take it"));
        let mut received = UnixStream::from(descriptors.pop().expect("one descriptor came along"));
        kept.write_all(b"hello").expect("a socket takes five bytes");
        let mut hello = [0; 5];
        received.read_exact(&mut hello).expect("five bytes are there");
        assert_eq!(&hello, b"hello");
    }

    #[test]
    fn end_of_stream_is_no_error() {
        let (here, there) = UnixStream::pair().expect("two sockets");
        drop(here);

        let received = receive(&there, &mut [0; 7], &mut Vec::new());

        assert_eq!(received.expect("an end is no error"), 0);
    }
}
