//! Whether the parent of this process is exiting.

use std::fs;

use rustix::process::{Pid, getppid};

use crate::transport::proc_pid;

/// Returns whether the parent is exiting, which closes its sockets one after the other. The kernel
/// releases the memory of a process before it closes the first one.
///
/// Returns `false` if `/proc` does not tell.
pub(super) fn is_parent_exiting() -> bool {
    if proc_pid().ok() != Some(std::process::id()) {
        return false;
    }
    let parent = getppid().map_or(0, Pid::as_raw_pid);
    let statm = fs::read_to_string(format!("/proc/{parent}/statm"));
    // The first field is the size of the address space.
    statm.is_ok_and(|it| it.starts_with("0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_parent_is_not_exiting() {
        assert!(!is_parent_exiting());
    }
}
