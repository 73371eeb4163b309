//! The descriptors that a forked process has inherited.
//!
//! A descriptor of the parent may belong to a value in memory, such as a `File` in a static, which
//! still exists in the child. Were it closed, the next file would get its number, and the value
//! would read, write and close a file of somebody else. So an inherited file is exchanged for one
//! on which every operation fails as on a closed one (`EBADF`), and its number stays taken.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};

use crate::fresh_child::FreshChild;
use crate::open_descriptors::{flags, open_descriptors};
use crate::queues::{Queue, find_queue};

/// Which inherited descriptors are released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// All. A worker that is forked later does not have the descriptors that this process has
    /// inherited from the program that started it.
    All,
    /// Those that an `exec` would close. Rust's standard library creates no others.
    CloseOnExec,
}

impl FreshChild {
    /// Releases inherited descriptors, except for the standard streams and `kept`.
    ///
    /// The file of a released descriptor is closed unless another process uses it. The number stays
    /// taken: reading and writing fail with `EBADF`, and closing succeeds.
    ///
    /// # Errors
    ///
    /// The process has created an epoll instance or an io_uring since the fork, as a tokio runtime
    /// does. Or `/proc` is missing, or too many files are open; some descriptors may have been
    /// released then.
    pub fn release_descriptors(
        &self,
        released: Released,
        kept: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if let Some(Queue { kind, descriptor }) = find_queue()? {
            let text =
                format!("failed to release descriptors: the process has an {kind} ({descriptor})");
            return Err(io::Error::other(text));
        }
        // A file that every process has. It is neither readable nor writable by this descriptor, and no
        // directory in which `openat` could find a file.
        let closed = open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        for number in open_descriptors()? {
            let keep = number <= libc::STDERR_FILENO
                || number == closed.as_raw_fd()
                || kept.iter().any(|it| it.as_raw_fd() == number);
            let open = || match released {
                Released::All => flags(number).is_some(),
                Released::CloseOnExec => flags(number).is_some_and(|it| it & libc::FD_CLOEXEC != 0),
            };
            if !keep && open() {
                self.release(number, &closed)?;
            }
        }
        Ok(())
    }

    fn release(&self, number: RawFd, closed: &OwnedFd) -> io::Result<()> {
        // SAFETY: the value that owns the descriptor, if any, relies on its number: that stays open
        // and belongs to the value alone. Nothing relies on its file but a registration with an
        // epoll instance or an io_uring, of which the caller has found none.
        let result = unsafe { libc::dup3(closed.as_raw_fd(), number, libc::O_CLOEXEC) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
