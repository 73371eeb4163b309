//! What a master tells a worker that runs: to take a descriptor over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::transport::{receive, send};

/// Something that a master hands over; one descriptor comes along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Order {
    /// Serve this connection.
    Connection = 1,
    /// Serve the connections that come to this listener.
    Listener = 2,
}

impl Order {
    pub(super) fn send(self, control: impl AsFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        send(control, &[self as u8], &[descriptor])
    }

    /// Waits for the next order; none when the master is gone.
    pub(super) fn receive(control: impl AsFd) -> io::Result<Option<(Self, OwnedFd)>> {
        let (mut kind, mut descriptors) = ([0], Vec::new());
        if receive(control, &mut kind, &mut descriptors)? == 0 {
            return Ok(None);
        }
        let order = [Self::Connection, Self::Listener].into_iter().find(|it| *it as u8 == kind[0]);
        match (order, descriptors.pop()) {
            (Some(order), Some(descriptor)) => Ok(Some((order, descriptor))),
            (None, _) => Err(io::Error::other(format!("unknown order {}", kind[0]))),
            (_, None) => Err(io::Error::other("an order without its descriptor")),
        }
    }
}
