//! Bytes that carry file descriptors, over a blocking Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The most descriptors that one message of ours carries.
const MAX_DESCRIPTORS: usize = 4;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Sends all of `bytes`; the descriptors go with the first of them.
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
    while !bytes.is_empty() {
        let slices = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(&socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                bytes = &bytes[sent..];
                ancillary.clear();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Fills `bytes` unless the peer ends the stream, and collects the descriptors that come along.
///
/// Returns how many bytes were received. Descriptors close on exec.
pub(crate) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes[filled..])];
        let received =
            rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let received = match received {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
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
    fn a_descriptor_that_was_sent_is_the_same_socket() {
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
    fn the_end_of_a_stream_is_no_error() {
        let (here, there) = UnixStream::pair().expect("two sockets");
        drop(here);

        let received = receive(&there, &mut [0; 7], &mut Vec::new());

        assert_eq!(received.expect("an end is no error"), 0);
    }
}
