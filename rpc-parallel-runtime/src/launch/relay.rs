//! Relays the output of workers to stdout and stderr of their master.
//!
//! A relay writes to the descriptors and bypasses std's buffers, so libtest does not capture its
//! output. An incomplete line that the master has printed stays in std's buffer, and may follow
//! relayed lines.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use super::lines::Lines;
use super::redirect::Redirect;
use super::stdio_lock::{StdioLock, Stream};
use super::tail::Tail;
use super::thread::start_thread;
use crate::transport::Origin;

/// The maximum number of bytes that are read from one worker before others have their turn, so that
/// a worker that never stops writing does not starve the others. A pipe holds that many bytes.
const MAX_READ: usize = 64 * 1024;

/// How long the end of this process may wait until all output is relayed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of bytes that the kernel writes to a pipe atomically (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// The streams of one worker that this process relays.
#[derive(Clone, Default)]
pub(crate) struct Outputs {
    stderr: Option<Arc<Relayed>>,
    stdout: Option<Arc<Relayed>>,
}

/// The writing ends of the relayed streams, for the worker.
#[derive(Default)]
pub(super) struct OutputWriters {
    pub(super) stderr: Option<PipeWriter>,
    pub(super) stdout: Option<PipeWriter>,
}

impl Outputs {
    /// Makes the pipes. The stderr of a worker is always relayed at first, so that errors can hold
    /// its last lines.
    pub(super) fn new(
        name: Option<&str>,
        stdout: &Redirect,
        stderr: &Redirect,
    ) -> io::Result<(Self, OutputWriters)> {
        let prefix = |it: &Redirect| match it.is_prefixed() {
            true => Prefix::Label(name.map(str::to_owned)),
            false => Prefix::None,
        };
        let (relayed_stderr, stderr_writer) =
            Relayed::new(Relay::get(Stream::Stderr)?, prefix(stderr))?;
        let mut outputs = Self { stderr: Some(relayed_stderr), stdout: None };
        let mut writers = OutputWriters { stderr: Some(stderr_writer), stdout: None };
        if stdout.is_prefixed() {
            let (relayed, writer) = Relayed::new(Relay::get(Stream::Stdout)?, prefix(stdout))?;
            (outputs.stdout, writers.stdout) = (Some(relayed), Some(writer));
        }
        Ok((outputs, writers))
    }

    /// Begins to relay the output of a new process.
    pub(super) fn begin(&self, pid: u32) -> io::Result<()> {
        self.set_pid(pid);
        self.all().try_for_each(|it| it.relay.watch(it))
    }

    /// Sets the process id for the prefix. It changes if a launcher's process starts the worker.
    pub(super) fn set_pid(&self, pid: u32) {
        self.all().for_each(|it| it.set_pid(pid));
    }

    /// Receives the output that the worker has written so far, and lets the relay write it.
    pub(super) fn receive(&self) {
        for relayed in self.all() {
            if relayed.receive() {
                // The pipe is empty, so the relay gets no event of it, and must be woken.
                relayed.relay.wake();
            }
        }
    }

    /// Returns the last lines of stderr that have been received.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.stderr.as_ref().map_or_else(Vec::new, |it| it.state().tail.lines())
    }

    /// Relays all output that workers have written so far, because this process is about to end.
    ///
    /// It waits at most for [`FLUSH_TIMEOUT`], because the reader of this process's output may have
    /// stopped reading.
    pub(crate) fn flush_all() {
        let began = Instant::now();
        for relay in [&STDOUT, &STDERR].into_iter().filter_map(OnceLock::get) {
            relay.flush(FLUSH_TIMEOUT.saturating_sub(began.elapsed()));
        }
    }

    /// Relays all output when this thread ends. It is called on the main thread. The platform
    /// decides whether thread-local destructors of the main thread run.
    pub(crate) fn flush_all_with_this_thread() {
        struct AtEnd;

        impl Drop for AtEnd {
            fn drop(&mut self) {
                Outputs::flush_all();
            }
        }

        thread_local!(static AT_END: AtEnd = const { AtEnd });
        AT_END.with(|_| ());
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Relayed>> {
        self.stderr.iter().chain(&self.stdout)
    }
}

/// One stream of one worker.
struct Relayed {
    pipe: PipeReader,
    relay: &'static Relay,
    prefix: Prefix,
    state: Mutex<State>,
}

/// The prefix of the lines of a stream.
enum Prefix {
    None,
    /// The name of the worker, or the id of its process if it has no name.
    Label(Option<String>),
}

#[derive(Default)]
struct State {
    tail: Tail,
    /// The prefix of each line. `None` if the bytes are relayed unchanged.
    prefix: Option<String>,
    lines: Lines,
    unwritten: Vec<u8>,
    ended: bool,
}

impl Relayed {
    fn new(relay: &'static Relay, prefix: Prefix) -> io::Result<(Arc<Self>, PipeWriter)> {
        let (pipe, writer) = io::pipe()?;
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Arc::new(Self { pipe, relay, prefix, state: Mutex::default() }), writer))
    }

    fn set_pid(&self, pid: u32) {
        self.state().prefix = match &self.prefix {
            Prefix::None => None,
            Prefix::Label(Some(name)) => Some(format!("[{name}] ")),
            Prefix::Label(None) => Some(format!("[pid {pid}] ")),
        };
    }

    /// Receives output, at most [`MAX_READ`] and a buffer more. Returns whether there was any.
    fn receive(&self) -> bool {
        let mut state = self.state();
        let (mut buffer, mut received) = ([0; 4096], 0);
        while !state.ended && received < MAX_READ {
            match (&self.pipe).read(&mut buffer) {
                Ok(0) => state.end(),
                Ok(len) => {
                    state.add(&buffer[..len]);
                    received += len;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => state.end(),
            }
        }
        received > 0
    }

    /// Writes the received output. Returns `false` if the stream has ended.
    fn forward(&self) -> bool {
        let mut state = self.state();
        let (unwritten, ended) = (mem::take(&mut state.unwritten), state.ended);
        // The lock is not held during the write, which may block on a terminal for any time.
        drop(state);
        if !unwritten.is_empty() {
            self.relay.write(&unwritten);
        }
        !ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

impl State {
    fn add(&mut self, bytes: &[u8]) {
        self.tail.add(bytes);
        match &self.prefix {
            Some(prefix) => self.lines.add(bytes, prefix, &mut self.unwritten),
            None => self.unwritten.extend_from_slice(bytes),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(prefix) = &self.prefix {
            self.lines.finish(prefix, &mut self.unwritten);
        }
    }
}

impl AsFd for Relayed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// A relay to one stream of this process, with a thread. Writes may block, so only this thread
/// writes, and it does nothing else.
struct Relay {
    stream: Stream,
    lock: StdioLock,
    origin: Origin,
    epoll: OwnedFd,
    watched: Mutex<Vec<Option<Arc<Relayed>>>>,
    wake: OwnedFd,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

/// The number of requested flushes, and of those that are done.
#[derive(Default)]
struct Flushes {
    requested: u64,
    done: u64,
}

/// Marks an epoll event as a request to write the received output, or to flush.
const WAKE: u64 = u64::MAX;

static STDOUT: OnceLock<Arc<Relay>> = OnceLock::new();
static STDERR: OnceLock<Arc<Relay>> = OnceLock::new();

impl Relay {
    /// Returns the relay to a stream. The first use starts its thread.
    fn get(stream: Stream) -> io::Result<&'static Self> {
        static STARTING: Mutex<()> = Mutex::new(());
        let relay = match stream {
            Stream::Stdout => &STDOUT,
            Stream::Stderr => &STDERR,
        };
        if let Some(relay) = relay.get() {
            return Ok(relay);
        }
        // A failure is not stored: it may be due to a temporary lack of threads or descriptors.
        let _guard = STARTING.lock();
        if let Some(relay) = relay.get() {
            return Ok(relay);
        }
        let new = Arc::new(Self::new(stream)?);
        let relaying = new.clone();
        // Without the thread the pipes would fill up and block the workers.
        start_thread(&format!("rpc-parallel {stream}"), Box::new(move || relaying.run()))?;
        Ok(relay.get_or_init(|| new))
    }

    fn new(stream: Stream) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let (flushes, flushed) = (Mutex::default(), Condvar::new());
        let (lock, origin) = (StdioLock::new(stream), Origin::here());
        Ok(Self { stream, lock, origin, epoll, watched: Mutex::default(), wake, flushes, flushed })
    }

    fn watch(&self, relayed: &Arc<Relayed>) -> io::Result<()> {
        let mut watched = self.watched();
        let index = watched.iter().position(Option::is_none).unwrap_or(watched.len());
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, relayed, data, epoll::EventFlags::IN)?;
        if index == watched.len() {
            watched.push(None);
        }
        watched[index] = Some(relayed.clone());
        Ok(())
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("failed to wait for {} of workers: {errno}", self.stream),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.relay_all(),
                    index => self.relay(index as usize),
                }
            }
        }
    }

    /// Relays the output of all workers. If a flush is requested, this includes incomplete lines.
    fn relay_all(&self) {
        let Flushes { requested, done } = *self.flushes();
        let watched: Vec<_> = self.watched().iter().flatten().cloned().collect();
        for relayed in watched {
            relayed.receive();
            if requested != done {
                relayed.state().finish();
            }
            relayed.forward();
        }
        self.flushes().done = requested;
        self.flushed.notify_all();
    }

    /// Requests a flush, and waits until it is done, at most for this time.
    fn flush(&self, limit: Duration) {
        // A forked child does not have the thread.
        if self.origin.is_other_process() {
            return;
        }
        let mut flushes = self.flushes();
        flushes.requested += 1;
        let own = flushes.requested;
        self.wake();
        let _ = self.flushed.wait_timeout_while(flushes, limit, |it| it.done < own);
    }

    fn wake(&self) {
        // It fails only if the counter overflows, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn relay(&self, index: usize) {
        let relayed = self.watched().get(index).cloned().flatten();
        let Some(relayed) = relayed else { return };
        relayed.receive();
        if !relayed.forward() {
            let _ = epoll::delete(&self.epoll, &relayed);
            self.watched()[index] = None;
        }
    }

    /// Writes to the stream of this process. If the stream is closed, the output is lost.
    ///
    /// The lock of `print!` and `eprint!` keeps lines of this process intact, which may reach the
    /// descriptor in several pieces. The relay continues without the lock after a timeout, because
    /// the code that holds it may wait for a worker that is blocked on its output.
    fn write(&self, bytes: &[u8]) {
        self.lock.with(|| {
            let _ = match self.stream {
                Stream::Stdout => write(rustix::stdio::stdout(), bytes),
                Stream::Stderr => write(rustix::stdio::stderr(), bytes),
            };
        });
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect("no thread panics while it holds this lock")
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Option<Arc<Relayed>>>> {
        self.watched.lock().expect("no thread panics while it holds this lock")
    }
}

/// Writes complete lines, as many at once as the kernel writes atomically.
fn write(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    let is_end = |it: &u8| *it == b'\n';
    while !bytes.is_empty() {
        let atomic = &bytes[..bytes.len().min(ATOMIC)];
        let lines = atomic.iter().rposition(is_end).or_else(|| bytes.iter().position(is_end));
        let (mut lines, rest) = bytes.split_at(lines.map_or(bytes.len(), |it| it + 1));
        while !lines.is_empty() {
            match rustix::io::write(stream, lines) {
                Ok(written) => lines = &lines[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    match poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Err(errno) => return Err(errno),
            }
        }
        bytes = rest;
    }
    Ok(())
}
