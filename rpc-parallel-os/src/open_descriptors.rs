//! The numbers of the descriptors that are open in this process.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// Lists the numbers of the descriptors of this process. One may have been closed since.
pub(crate) fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|it| it.parse::<RawFd>().ok()));
    }
    Ok(numbers)
}

/// Returns the flags of a descriptor, or `None` if it is closed.
pub(crate) fn flags(number: RawFd) -> Option<i32> {
    // SAFETY: the call reads the flags of a descriptor, and accepts any number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    (flags >= 0).then_some(flags)
}

/// Returns the type of the file of a descriptor (`S_IFMT`), or `None` if it is closed.
pub(crate) fn file_type(number: RawFd) -> Option<libc::mode_t> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the call only writes a status, for which there is room, and accepts any number.
    let result = unsafe { libc::fstat(number, status.as_mut_ptr()) };
    // SAFETY: the call has written the status if it has succeeded, and all zeros are valid too.
    (result == 0).then(|| unsafe { status.assume_init() }.st_mode & libc::S_IFMT)
}
