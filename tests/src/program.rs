//! Programs that a test starts, with their input and output.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};

use crate::process::{TEST_TIMEOUT, ends_within};

/// A running program. Dropping it kills the program.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: JoinHandle<String>,
}

/// The exit status of a program and its output that has not been read.
#[derive(Debug)]
pub struct ProgramOutput {
    /// The exit code or signal.
    pub status: ExitStatus,
    /// The lines of its stdout that [`Program::line`] has not returned.
    pub stdout: Vec<String>,
    /// Its whole stderr.
    pub stderr: String,
}

impl Program {
    /// Starts a program.
    ///
    /// # Panics
    ///
    /// Panics if the program cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::start_at(command, Stdio::piped())
    }

    /// Starts a program with this stdin, to which [`write_line`](Self::write_line) cannot write.
    ///
    /// # Panics
    ///
    /// Panics if the program cannot be started.
    #[must_use]
    pub fn start_at(command: &mut Command, stdin: impl Into<Stdio>) -> Self {
        // Symbolizing a backtrace is slow.
        command.env("RUST_BACKTRACE", "0");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            // The receiver is dropped with the `Program`.
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            read.map(|it| sender.send(it)).take_while(Result::is_ok).count()
        });
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        // The command would keep our copy of the descriptor.
        command.stdin(Stdio::null());
        let stdin = child.stdin.take();
        Self { child, stdin, lines, stderr }
    }

    /// Runs a program to its end.
    #[must_use]
    pub fn run(command: &mut Command) -> ProgramOutput {
        Self::start(command).end()
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of its stdout.
    ///
    /// # Panics
    ///
    /// Panics if no line comes in time.
    #[must_use]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(TEST_TIMEOUT).expect("the program prints a line")
    }

    /// Waits for a line of numbers.
    ///
    /// # Panics
    ///
    /// Panics if no such line comes in time.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let line = self.line();
        let numbers: Result<_, _> = line.split_whitespace().map(str::parse).collect();
        numbers.unwrap_or_else(|error| panic!("expected numbers, found {line:?}: {error}"))
    }

    /// Writes a line to its stdin.
    ///
    /// # Panics
    ///
    /// Panics if the program has exited.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").expect("the program reads its stdin");
    }

    /// Kills it by SIGKILL.
    ///
    /// # Panics
    ///
    /// Panics if the program has exited.
    pub fn kill(&mut self) {
        self.child.kill().expect("the program runs");
    }

    /// Closes its stdin, waits until it has exited and its output is closed, and returns the rest
    /// of the output.
    ///
    /// # Panics
    ///
    /// Panics if the program does not exit in time, or if another process still holds its output.
    #[must_use]
    pub fn end(mut self) -> ProgramOutput {
        drop(self.stdin.take());
        assert!(ends_within(self.child.id(), TEST_TIMEOUT), "the program exits");
        let status = self.child.wait().expect("wait for the program");
        let mut stdout = Vec::new();
        // The sender is dropped when no process holds the program's stdout.
        loop {
            match self.lines.recv_timeout(TEST_TIMEOUT) {
                Ok(line) => stdout.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("another process holds the program's stdout: {error}"),
            }
        }
        let reading = std::mem::replace(&mut self.stderr, thread::spawn(String::new));
        let stderr = reading.join().expect("reading does not panic");
        ProgramOutput { status, stdout, stderr }
    }
}

/// Prints a line with one write, so that lines of several processes stay whole.
///
/// # Panics
///
/// Panics if stdout is closed.
pub fn print_line(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).expect("write to stdout");
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if the program has exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
