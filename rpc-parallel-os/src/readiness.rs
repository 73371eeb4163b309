//! A descriptor that is registered with tokio for one direction.
//!
//! tokio's own sockets are registered for both directions, so a process that waits to read is also
//! woken each time its peer has read.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// The direction whose readiness is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The descriptor has bytes to read, or its peer has ended the stream.
    Read,
    /// The descriptor has room for bytes, or no process reads them any more.
    Write,
}

/// A descriptor that is registered with a tokio runtime for one direction, until it is dropped.
///
/// The registration uses the descriptor itself, so it also succeeds in a process that has too many
/// open files. A runtime registers each descriptor only once: two directions at the same time
/// require two descriptors of the same file.
pub struct Readiness {
    // Private, and never borrowed mutably: `AsyncFd::get_mut` would allow to exchange the `Arc`.
    registered: AsyncFd<Arc<OwnedFd>>,
    direction: Direction,
}

impl Readiness {
    /// Registers a descriptor with the current tokio runtime. It must be non-blocking.
    ///
    /// # Errors
    ///
    /// The descriptor is registered already, is of a kind that reports no readiness (a regular
    /// file), or the kernel lacks memory.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, or if its I/O driver is disabled.
    pub fn register(descriptor: Arc<OwnedFd>, direction: Direction) -> io::Result<Self> {
        let interest = match direction {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        };
        // SAFETY: the descriptor must be open, and refer to the same file, until the `AsyncFd` is
        // dropped. An `OwnedFd` is closed when it is dropped, and the `Arc` in the `AsyncFd` keeps
        // it alive. Behind an `Arc` it cannot be exchanged, and `Self` neither hands out the
        // `AsyncFd` nor borrows it mutably, so the `Arc` cannot be exchanged either.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) }?;
        Ok(Self { registered, direction })
    }

    /// Waits until the descriptor is ready. Only the task that polled last is woken.
    ///
    /// The descriptor stays ready until [`clear_ready`](AsyncFdReadyGuard::clear_ready) is called,
    /// which is right after an operation that would have blocked.
    ///
    /// # Errors
    ///
    /// The runtime was shut down.
    pub fn poll_ready(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyGuard<'_, Arc<OwnedFd>>>> {
        match self.direction {
            Direction::Read => self.registered.poll_read_ready(cx),
            Direction::Write => self.registered.poll_write_ready(cx),
        }
    }

    /// Returns the descriptor.
    #[must_use]
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        self.registered.get_ref()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("descriptor", self.descriptor())
            .field("direction", &self.direction)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Arc<OwnedFd>, UnixStream) {
        let (here, there) = UnixStream::pair().expect("make two sockets");
        here.set_nonblocking(true).expect("set a flag of a socket");
        (Arc::new(here.into()), there)
    }

    const EPOLLIN: u32 = 1;
    const EPOLLOUT: u32 = 4;

    /// Returns the directions for which an epoll instance of this process watches a descriptor.
    fn watched(descriptor: &OwnedFd) -> BTreeSet<u32> {
        let mut directions = BTreeSet::new();
        for entry in fs::read_dir("/proc/self/fdinfo").expect("list the descriptors") {
            let path = entry.expect("read an entry of /proc").path();
            // Descriptors of tests that run at the same time are closed meanwhile.
            let info = fs::read_to_string(path).unwrap_or_default();
            for line in info.lines().filter_map(|it| it.strip_prefix("tfd:")) {
                let mut words = line.split_whitespace();
                if words.next() == Some(&descriptor.as_raw_fd().to_string()) {
                    let mask = words.nth(1).expect("find the mask after `events:`");
                    let mask = u32::from_str_radix(mask, 16).expect("parse the mask");
                    directions.insert(mask & (EPOLLIN | EPOLLOUT));
                }
            }
        }
        directions
    }

    #[tokio::test]
    async fn descriptor_is_watched_for_one_direction_until_drop() {
        for (direction, expected) in [(Direction::Read, EPOLLIN), (Direction::Write, EPOLLOUT)] {
            let (here, _there) = pair();

            let readiness = Readiness::register(here.clone(), direction).expect("register it");
            let during = watched(&here);
            drop(readiness);
            let after = watched(&here);

            assert_eq!(during, BTreeSet::from([expected]), "{direction:?}");
            assert_eq!(after, BTreeSet::new(), "{direction:?}");
        }
    }

    #[tokio::test]
    async fn registered_descriptor_stays_open_without_other_owner() {
        let (here, mut there) = pair();
        let readiness = Readiness::register(here, Direction::Read).expect("register it");

        there.write_all(b"hello").expect("write five bytes");
        let ready = poll_fn(|cx| readiness.poll_ready(cx).map_ok(drop)).await;
        let here = readiness.descriptor().clone();
        drop(readiness);

        ready.expect("the runtime runs");
        let mut here = UnixStream::from(Arc::into_inner(here).expect("it is the last owner"));
        let mut hello = [0; 5];
        here.read_exact(&mut hello).expect("read five bytes");
        assert_eq!(&hello, b"hello");
    }

    #[tokio::test]
    async fn descriptor_can_be_registered_again_after_drop() {
        let (here, _there) = pair();

        for _ in 0..100 {
            let readiness = Readiness::register(here.clone(), Direction::Write);
            let readiness = readiness.expect("the descriptor is not registered");
            poll_fn(|cx| readiness.poll_ready(cx).map_ok(drop)).await.expect("the runtime runs");
        }
    }

    #[tokio::test]
    async fn second_registration_of_descriptor_fails() {
        let (here, _there) = pair();
        let _readiness = Readiness::register(here.clone(), Direction::Read).expect("register it");

        let second = Readiness::register(here, Direction::Write);

        assert_eq!(second.err().map(|it| it.kind()), Some(io::ErrorKind::AlreadyExists));
    }

    #[tokio::test]
    async fn regular_file_cannot_be_registered() {
        let file = fs::File::open("/proc/self/exe").expect("open this executable");

        let registered = Readiness::register(Arc::new(file.into()), Direction::Read);

        assert_eq!(registered.err().map(|it| it.kind()), Some(io::ErrorKind::PermissionDenied));
    }
}
