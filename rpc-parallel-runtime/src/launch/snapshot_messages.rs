//! What a master and its snapshot process send each other, over a socket that keeps the boundaries
//! of messages.
//!
//! A request is a message of [`Request`], which the descriptors of the worker accompany. All replies
//! are messages of [`Reply`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair as make_socketpair,
};

use crate::transport::{Fault, receive_some, send};
use crate::wire::{Field, PanicReport, Sink, fields, read_message, write_message};

/// The maximum length of a reply, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// The maximum length of a request, in bytes.
const MAX_REQUEST_LEN: usize = 256;

/// The number of descriptors of a request.
const DESCRIPTORS: usize = 4;

/// A request to fork a worker.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Request {
    /// The number by which the reply names the request.
    pub(super) serial: u64,
    /// The value of the worker's boot token.
    pub(super) boot_token: String,
}

fields!(struct Request { serial, boot_token });

/// The descriptors of a worker that is to be forked.
pub(super) struct WorkerDescriptors {
    /// The worker's end of its control socket.
    pub(super) control: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) current_dir: OwnedFd,
}

/// A message of the snapshot process, or of a worker that it has just forked.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Reply {
    /// The snapshot is taken. `probe` is a child of the master that exits with code 0 if a worker
    /// would start. `heap` is the anonymous memory of the snapshot process, in bytes. `no_sibling` is
    /// why the snapshot process cannot make children of the master.
    Ready { probe: u32, heap: u64, no_sibling: Option<String> },
    /// The function of the snapshot has returned an error.
    Failed { why: String },
    /// The function of the snapshot has panicked.
    Panicked { panic: PanicReport },
    /// The snapshot process cannot be forked after the function.
    Unforkable { why: String },
    /// The snapshot process could not prepare itself.
    Unprepared { why: String },
    /// The process exists. The process sends this message too, in case its snapshot process is killed.
    Forked { serial: u64, pid: u32 },
    /// The process could not be forked.
    NotForked { serial: u64, why: String },
}

fields!(enum Reply {
    0 => Ready { probe, heap, no_sibling },
    1 => Failed { why },
    2 => Panicked { panic },
    3 => Unforkable { why },
    4 => Unprepared { why },
    5 => Forked { serial, pid },
    6 => NotForked { serial, why },
});

/// Makes the two ends of the socket. Both are close-on-exec.
pub(super) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(make_socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Requests a worker.
pub(super) fn send_request(
    socket: &OwnedFd,
    request: &Request,
    descriptors: &WorkerDescriptors,
) -> io::Result<()> {
    let WorkerDescriptors { control, stdout, stderr, current_dir } = descriptors;
    let descriptors: [BorrowedFd<'_>; DESCRIPTORS] =
        [control, stdout, stderr, current_dir].map(AsFd::as_fd);
    send(socket, &encode(request, MAX_REQUEST_LEN)?, &descriptors)
}

/// Receives a request. Returns `None` if the master has closed the socket.
pub(super) fn receive_request(
    socket: &OwnedFd,
) -> io::Result<Option<(Request, WorkerDescriptors)>> {
    let (mut bytes, mut descriptors) = ([0; MAX_REQUEST_LEN], Vec::new());
    let len = receive_some(socket, &mut bytes, &mut descriptors)?;
    if len == 0 {
        return Ok(None);
    }
    let request = read_message(&bytes[..len]).map_err(io::Error::other)?;
    let descriptors = <[OwnedFd; DESCRIPTORS]>::try_from(descriptors).map_err(|it| {
        io::Error::other(format!("expected {DESCRIPTORS} descriptors, found {}", it.len()))
    })?;
    let [control, stdout, stderr, current_dir] = descriptors;
    let descriptors = WorkerDescriptors { control, stdout, stderr, current_dir };
    Ok(Some((request, descriptors)))
}

/// Sends a reply.
pub(super) fn send_reply(socket: &OwnedFd, reply: &Reply) -> io::Result<()> {
    send(socket, &encode(reply, MAX_LEN)?, &[])
}

/// Waits for a reply. Returns `None` if the snapshot process has ended.
pub(super) fn receive_reply(socket: &OwnedFd) -> io::Result<Option<Reply>> {
    let mut bytes = Vec::with_capacity(MAX_LEN);
    loop {
        match recv(socket, spare_capacity(&mut bytes), RecvFlags::empty()) {
            Ok((0, _)) => return Ok(None),
            Ok(_) => return read_message(&bytes).map(Some).map_err(io::Error::other),
            Err(errno) => match Fault::of(&errno.into()) {
                Fault::Transient => {}
                Fault::PeerGone => return Ok(None),
                Fault::NotReady | Fault::Fatal => return Err(errno.into()),
            },
        }
    }
}

fn encode(message: &impl Field, max_len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut sink = Sink::new(&mut bytes, max_len);
    write_message(message, &mut sink);
    sink.finish().map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("open /dev/null").into()
    }

    fn request() -> Request {
        Request { serial: 3, boot_token: "1:2:3:4".to_owned() }
    }

    #[test]
    fn replies_keep_their_boundaries() {
        let (master, snapshot) = socket_pair().expect("make a socket pair");
        let forked = Reply::Forked { serial: 1, pid: 7 };
        let refused = Reply::NotForked { serial: 2, why: "no memory".to_owned() };

        send_reply(&snapshot, &forked).expect("send the first reply");
        send_reply(&snapshot, &refused).expect("send the second reply");
        drop(snapshot);

        let received = [(); 3].map(|()| receive_reply(&master).expect("the replies are valid"));
        assert_eq!(received, [Some(forked), Some(refused), None]);
    }

    #[test]
    fn request_without_descriptors_is_refused() {
        let (master, snapshot) = socket_pair().expect("make a socket pair");

        let bytes = encode(&request(), MAX_REQUEST_LEN).expect("it is short");
        send(&master, &bytes, &[]).expect("send a request");

        let error = receive_request(&snapshot).map(drop).expect_err("it has no descriptors");
        assert_eq!(error.to_string(), "expected 4 descriptors, found 0");
    }

    #[test]
    fn request_arrives_with_its_descriptors() {
        let (master, snapshot) = socket_pair().expect("make a socket pair");
        let descriptors = WorkerDescriptors {
            control: null(),
            stdout: null(),
            stderr: null(),
            current_dir: File::open("/").expect("open the root").into(),
        };

        send_request(&master, &request(), &descriptors).expect("send a request");

        let received = receive_request(&snapshot).expect("it is valid").expect("it was sent");
        let (received, WorkerDescriptors { current_dir, .. }) = received;
        let is_directory = File::from(current_dir).metadata().expect("it is open").is_dir();
        assert_eq!((received, is_directory), (request(), true));
    }
}
