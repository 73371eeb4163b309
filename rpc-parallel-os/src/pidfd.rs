//! Why a pidfd cannot be used.

use std::io;

use rustix::io::Errno;

/// A pidfd could not be opened or waited for.
#[derive(Debug, thiserror::Error)]
#[error("{}", .cause.text())]
pub struct PidfdError {
    cause: PidfdCause,
    source: io::Error,
}

/// Why a pidfd could not be opened or waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PidfdCause {
    /// The kernel, or the sandbox or emulator in its place, has no pidfds.
    Unsupported,
    /// A security policy refuses them.
    Forbidden,
    /// There is no such process, or it is not a child that can be waited for.
    NoProcess,
    /// Too many files are open, or the kernel lacks memory.
    Exhausted,
    /// Another cause.
    Other,
}

impl PidfdError {
    /// Classifies an error of `pidfd_open`, or of `waitid` with `P_PIDFD`.
    #[must_use]
    pub fn new(errno: Errno) -> Self {
        let cause = match errno {
            // `waitid` of Linux before 5.4 does not know `P_PIDFD`.
            Errno::NOSYS | Errno::INVAL => PidfdCause::Unsupported,
            Errno::PERM | Errno::ACCESS => PidfdCause::Forbidden,
            Errno::SRCH | Errno::CHILD => PidfdCause::NoProcess,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => PidfdCause::Exhausted,
            _ => PidfdCause::Other,
        };
        Self { cause, source: errno.into() }
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> PidfdCause {
        self.cause
    }
}

impl PidfdCause {
    fn text(self) -> &'static str {
        match self {
            Self::Unsupported => {
                "pidfds are not supported: they require Linux 5.4 or newer, and some sandboxes and \
                 emulators lack them"
            }
            Self::Forbidden => "a security policy, such as a seccomp filter, refuses pidfds",
            Self::NoProcess => "the process does not exist, is no child, or was reaped elsewhere",
            Self::Exhausted => "too many files are open, or the kernel lacks memory for a pidfd",
            Self::Other => "failed to use a pidfd",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

    use super::*;

    #[test]
    fn reaped_process_cannot_be_waited_for() {
        let child = Command::new("/proc/self/exe").arg("--help").stdout(Stdio::null()).spawn();
        let mut child = child.expect("start this executable");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it runs");
        child.wait().expect("reap it");

        let error = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        let error = PidfdError::new(error.expect_err("it was reaped"));

        assert_eq!(error.cause(), PidfdCause::NoProcess, "{error}");
        assert!(error.source().is_some());
    }

    #[test]
    fn old_kernel_is_named_as_cause() {
        let error = PidfdError::new(Errno::NOSYS);

        assert_eq!(error.cause(), PidfdCause::Unsupported);
        assert!(error.to_string().contains("Linux 5.4"), "{error}");
    }
}
