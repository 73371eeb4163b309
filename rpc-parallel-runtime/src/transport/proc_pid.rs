//! The id of this process in the mounted `/proc`.
//!
//! A process has one id in each PID namespace that contains it, and `/proc` shows the ids of the
//! namespace that it was mounted for. After `unshare --pid --fork` without `--mount-proc`, that is
//! another namespace than the one of `getpid`.

use std::fs::read_link;
use std::io;

/// Returns the id of this process in `/proc`. Every process that sees the same `/proc` reaches this
/// process by it.
///
/// # Errors
///
/// There is no `/proc`, or it belongs to a PID namespace that does not contain this process.
pub(crate) fn proc_pid() -> io::Result<u32> {
    let link = read_link("/proc/self").ok();
    link.and_then(|it| it.to_str()?.parse().ok()).ok_or_else(|| {
        let why = "this process is not in `/proc`; mount the `/proc` of its PID namespace \
                   (`mount -t proc proc /proc`, or `unshare --mount-proc`)";
        io::Error::new(io::ErrorKind::Unsupported, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_pid_leads_to_own_directory() {
        let pid = proc_pid().expect("/proc is mounted");

        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is ours");
        let innermost = status.lines().find_map(|it| it.strip_prefix("NSpid:"));
        let innermost = innermost.and_then(|it| it.split_whitespace().last());
        assert_eq!(innermost, Some(&*std::process::id().to_string()));
    }
}
