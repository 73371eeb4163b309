//! Queues of the kernel that hold pointers into the memory of this process.
//!
//! After a fork, an epoll instance and an io_uring belong to both processes. What one registers,
//! the other is told of, with a pointer that means nothing in its memory. So a process with a tokio
//! runtime must not be forked, not even from the only thread of a `current_thread` runtime.

use std::fs;
use std::io;
use std::os::fd::RawFd;

use crate::open_descriptors::{file_type, flags, open_descriptors};

/// A queue that is open in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// The number of its descriptor.
    pub descriptor: RawFd,
    /// Its kind: `epoll` or `io_uring`.
    pub kind: &'static str,
}

/// Finds a queue that this process has created.
///
/// One that was inherited through an `exec` holds no pointers into the memory of this process. Its
/// descriptor lacks the flag `FD_CLOEXEC`, which tokio's descriptors have.
pub(crate) fn find_queue() -> io::Result<Option<Queue>> {
    for descriptor in open_descriptors()? {
        if flags(descriptor).is_none_or(|it| it & libc::FD_CLOEXEC == 0) {
            continue;
        }
        // A queue has no type of file, or that of regular files. Sockets and pipes are the most
        // frequent others, and the link of each takes as long to read as all types together.
        if matches!(file_type(descriptor), Some(libc::S_IFSOCK | libc::S_IFIFO | libc::S_IFDIR)) {
            continue;
        }
        let Ok(file) = fs::read_link(format!("/proc/self/fd/{descriptor}")) else { continue };
        let kind = match file.as_os_str().as_encoded_bytes() {
            b"anon_inode:[eventpoll]" => "epoll",
            b"anon_inode:[io_uring]" => "io_uring",
            _ => continue,
        };
        return Ok(Some(Queue { descriptor, kind }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_of_runtime_is_found() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let _runtime = runtime.expect("build a runtime");

        let queue = find_queue().expect("/proc is mounted");

        assert_eq!(queue.map(|it| it.kind), Some("epoll"));
    }
}
