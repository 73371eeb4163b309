//! The exit codes of workers, as they are seen by what has started them: a master tells only those
//! of workers that failed.

use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};

use rpc_parallel::launch::WrapperLauncher;
use tokio::net::unix::pipe::Receiver;

use crate::waiting::soon;

/// Hears the exit codes of workers, also of those that other processes start.
#[derive(Debug)]
pub struct ExitCodes {
    receiver: Receiver,
    writer: PipeWriter,
}

impl ExitCodes {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// There is no pipe to be had.
    #[must_use]
    pub fn new() -> Self {
        let (reader, writer) = io::pipe().expect("make a pipe");
        let receiver = Receiver::from_owned_fd(OwnedFd::from(reader)).expect("it is a pipe");
        Self { receiver, writer }
    }

    /// Returns where the codes are written to.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.writer.as_raw_fd())
    }

    /// Waits for the next worker that ends.
    ///
    /// # Panics
    ///
    /// None does.
    pub async fn next(&self) -> i32 {
        let mut line = String::new();
        while !line.ends_with('\n') {
            soon(self.receiver.readable()).await.expect("this process holds the other end");
            let mut byte = [0];
            if let Ok(1) = self.receiver.try_read(&mut byte) {
                line.push(byte[0].into());
            }
        }
        line.trim_end().parse().expect("it is a number")
    }
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes what starts a worker whose exit code is then written [there](ExitCodes::path).
pub fn telling(path: &str) -> WrapperLauncher {
    // A shell makes 128 and more of signals.
    WrapperLauncher::new("sh").args(["-c", r#""$@"; echo $? > "$0""#, path])
}
