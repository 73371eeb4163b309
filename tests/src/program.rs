//! Programs that a test starts: what they print, what they are told, how they end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use crate::process::{PATIENCE, ends_within};

/// A program that runs; it is killed where a test forgets it.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: JoinHandle<String>,
}

/// How a program ended, and what it printed that nobody had read yet.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// The lines of its stdout.
    pub stdout: Vec<String>,
    /// All of its stderr.
    pub stderr: String,
}

impl Program {
    /// Starts a program.
    ///
    /// # Panics
    ///
    /// The program cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::start_at(command, Stdio::piped())
    }

    /// Starts a program with a stdin of its own, which nobody can write to by `tell`.
    ///
    /// # Panics
    ///
    /// The program cannot be started.
    #[must_use]
    pub fn start_at(command: &mut Command, stdin: impl Into<Stdio>) -> Self {
        // Panics are told in one line: a backtrace takes its time, and nobody reads it.
        command.env("RUST_BACKTRACE", "0");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|it| panic!("start {command:?}: {it}"));
        let stdout = child.stdout.take().expect("it was piped");
        let mut stderr = child.stderr.take().expect("it was piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            // Nobody listens any more once the test has what it wanted.
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            read.map(|it| sender.send(it)).take_while(Result::is_ok).count()
        });
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        // Otherwise our copy would stay with the command.
        command.stdin(Stdio::null());
        let stdin = child.stdin.take();
        Self { child, stdin, lines, stderr }
    }

    /// Runs a program to its end.
    #[must_use]
    pub fn run(command: &mut Command) -> Ended {
        Self::start(command).end()
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that it prints.
    ///
    /// # Panics
    ///
    /// There comes none.
    #[must_use]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program prints a line")
    }

    /// Waits for a line of numbers.
    ///
    /// # Panics
    ///
    /// There comes none, or something else.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let line = self.line();
        let numbers: Result<_, _> = line.split_whitespace().map(str::parse).collect();
        numbers.unwrap_or_else(|it| panic!("numbers instead of {line:?}: {it}"))
    }

    /// Writes a line to its stdin.
    ///
    /// # Panics
    ///
    /// It has ended.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is there until the end");
        writeln!(stdin, "{line}").expect("the program reads its stdin");
    }

    /// Kills it by SIGKILL.
    ///
    /// # Panics
    ///
    /// It has ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("the program runs");
    }

    /// Closes its stdin and waits for its end, and for that of its output.
    ///
    /// # Panics
    ///
    /// It does not end, or somebody else still holds its output.
    #[must_use]
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        assert!(ends_within(self.child.id(), PATIENCE), "the program ends");
        let status = self.child.wait().expect("it has ended");
        let mut stdout = Vec::new();
        // The sender goes with the last process that holds the program's stdout.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => stdout.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("somebody still holds the program's stdout: {error}"),
            }
        }
        let reading = std::mem::replace(&mut self.stderr, thread::spawn(String::new));
        let stderr = reading.join().expect("reading does not panic");
        Ended { status, stdout, stderr }
    }
}

/// Prints a line in one piece, where several processes write to the same pipe.
///
/// # Panics
///
/// Nobody reads any more.
pub fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).expect("somebody reads it");
}

impl Drop for Program {
    fn drop(&mut self) {
        // It fails where the program has ended, which is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
