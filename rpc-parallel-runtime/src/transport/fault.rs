//! Classifies errors of sockets, and computes the pauses between retries.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// The class of a failed read or write, which determines how the caller handles the error.
///
/// No other code examines the error codes of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The socket has no free space to write to, or nothing to read. The caller waits for
    /// readiness.
    NotReady,
    /// The kernel lacks memory, or a signal arrived. Nothing was transferred, and the same
    /// operation can succeed after a pause.
    Transient,
    /// The peer has closed the socket. Bytes that it sent before can still be read, up to the end
    /// of the stream.
    PeerGone,
    /// Any other error. The socket is considered broken.
    Fatal,
}

impl Fault {
    /// Classifies an error of a socket.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::NotReady,
            io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory => Self::Transient,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => Self::PeerGone,
            // The standard library has no `ErrorKind` for ENOBUFS.
            _ if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Self::Transient,
            _ => Self::Fatal,
        }
    }
}

/// The pause after the first transient fault.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause after a transient fault.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The pauses between attempts of an operation that fails with transient faults. Each pause is
/// twice as long as the previous one, from 1 ms to 100 ms.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Resets the next pause to the shortest one, after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified_by_reaction() {
        let classes = [
            (Errno::AGAIN, Fault::NotReady),
            (Errno::NOBUFS, Fault::Transient),
            (Errno::NOMEM, Fault::Transient),
            (Errno::INTR, Fault::Transient),
            (Errno::PIPE, Fault::PeerGone),
            (Errno::CONNRESET, Fault::PeerGone),
            (Errno::NOTCONN, Fault::PeerGone),
            (Errno::MFILE, Fault::Fatal),
            (Errno::NFILE, Fault::Fatal),
            (Errno::NOSPC, Fault::Fatal),
            (Errno::BADF, Fault::Fatal),
            (Errno::PERM, Fault::Fatal),
        ];

        for (errno, fault) in classes {
            assert_eq!(Fault::of(&errno.into()), fault, "{errno:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_maximum() {
        let mut backoff = Backoff::default();

        let pauses: Vec<_> = (0..9).map(|_| backoff.pause().as_millis()).collect();
        let much_later = (0..100).map(|_| backoff.pause()).last();
        backoff.reset();

        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        assert_eq!(much_later, Some(LONGEST_PAUSE));
        assert_eq!(backoff.pause(), FIRST_PAUSE);
    }
}
