//! Exit codes of workers as their parent processes see them.
//!
//! A master reports only the exit codes of workers that failed.

use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};

use rpc_parallel::launch::WrapperLauncher;
use tokio::net::unix::pipe::Receiver;

use crate::waiting::soon;

/// Receives exit codes of workers, also of workers that other processes start.
#[derive(Debug)]
pub struct ExitCodes {
    receiver: Receiver,
    writer: PipeWriter,
}

impl ExitCodes {
    /// Makes a receiver.
    ///
    /// # Panics
    ///
    /// Panics if no pipe can be made.
    #[must_use]
    pub fn new() -> Self {
        let (reader, writer) = io::pipe().expect("make a pipe");
        let receiver = Receiver::from_owned_fd(OwnedFd::from(reader)).expect("register the pipe");
        Self { receiver, writer }
    }

    /// Returns the path of the file for [`report_exit_code`].
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.writer.as_raw_fd())
    }

    /// Waits until the next worker exits, and returns its exit code.
    ///
    /// # Panics
    ///
    /// Panics if no worker exits in time.
    pub async fn next(&self) -> i32 {
        let mut line = String::new();
        while !line.ends_with('\n') {
            soon(self.receiver.readable()).await.expect("this process holds the writer");
            let mut byte = [0];
            if let Ok(1) = self.receiver.try_read(&mut byte) {
                line.push(byte[0].into());
            }
        }
        line.trim_end().parse().expect("the shell writes a number")
    }
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a launcher that writes the exit code of its worker to [this file](ExitCodes::path).
pub fn report_exit_code(path: &str) -> WrapperLauncher {
    // The shell turns a signal into an exit code of 128 plus its number.
    WrapperLauncher::new("sh").args(["-c", r#""$@"; echo $? > "$0""#, path])
}
