//! Bytes that carry file descriptors, over a blocking Unix socket.

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

/// The most descriptors that one message of ours carries.
const MAX_DESCRIPTORS: usize = 4;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// How long an operation is retried that fails with transient faults.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends all of `bytes`; the descriptors go with the first of them.
///
/// While the kernel lacks memory it blocks the thread and retries, for 1 s at most.
///
/// # Errors
///
/// [`Fault::PeerGone`] means that the peer has closed its end; what it sent before can still be
/// read. After any other error the message has not arrived, or only its beginning if it is longer
/// than the socket has room for; then the peer takes what is sent next for the rest of it.
pub(crate) fn send(
    socket: impl AsFd,
    mut bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more descriptors than one message carries"));
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

/// Sends one byte without retrying and without waiting for room.
///
/// # Errors
///
/// The byte was not sent. [`Fault::of`] says what that means.
pub(crate) fn send_once(socket: impl AsFd, byte: u8) -> io::Result<()> {
    rustix::net::send(&socket, &[byte], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// The attempts of one blocking operation.
struct Retries {
    began: Option<Instant>,
    backoff: Backoff,
}

impl Retries {
    fn begin() -> Self {
        Self { began: None, backoff: Backoff::default() }
    }

    /// Blocks before the next attempt, after a transient fault.
    ///
    /// # Errors
    ///
    /// Another attempt does not help, or there were enough.
    fn wait_after(&mut self, error: io::Error) -> io::Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if Fault::of(&error) != Fault::Transient || began.elapsed() >= RETRY_TIMEOUT {
            return Err(error);
        }
        // A signal says nothing about the next attempt.
        if error.kind() != io::ErrorKind::Interrupted {
            thread::sleep(self.backoff.pause());
        }
        Ok(())
    }
}

/// Fills `bytes` unless the peer ends the stream, and collects the descriptors that come along.
///
/// Returns how many bytes were received. Descriptors close on exec. While the kernel lacks memory it
/// blocks the thread and retries, for 1 s at most.
pub(crate) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut filled = 0;
    let mut retries = Retries::begin();
    while filled < bytes.len() {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes[filled..])];
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
        // The kernel drops descriptors that it cannot install, and says so only here.
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors were lost on the way: too many open files in this process",
            ));
        }
        if received.bytes == 0 {
            break;
        }
        filled += received.bytes;
    }
    Ok(filled)
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
