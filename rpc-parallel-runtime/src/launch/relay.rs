//! Passes on what workers write to the stdout and stderr of their master.
//!
//! A relay writes to the descriptors, not through std's buffers, so libtest does not capture its
//! output. What the master has printed of a line stays in std's buffer and may come later.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::io::Errno;

use super::lines::Lines;
use super::redirect::Redirect;
use super::stdio_lock::{StdioLock, Stream};
use super::tail::Tail;
use super::thread::start_thread;
use crate::transport::Origin;

/// What is read of one output before it is passed on: as much as a pipe holds, so that a worker
/// that never stops writing does not keep us.
const TURN: usize = 64 * 1024;

/// How long the end of this process may wait until all is passed on.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the system writes to a pipe in one piece, whoever else writes there.
const IN_ONE_PIECE: usize = 4096;

/// The outputs of one worker that pass through this process.
#[derive(Clone, Default)]
pub(crate) struct Outputs {
    stderr: Option<Arc<Relayed>>,
    stdout: Option<Arc<Relayed>>,
}

/// The worker's ends of them.
#[derive(Default)]
pub(super) struct WorkersEnds {
    pub(super) stderr: Option<PipeWriter>,
    pub(super) stdout: Option<PipeWriter>,
}

impl Outputs {
    /// Makes the pipes. A worker's stderr passes through here wherever it goes in the end: that is
    /// how an error can hold its last lines.
    pub(super) fn new(
        name: Option<&str>,
        stdout: &Redirect,
        stderr: &Redirect,
    ) -> io::Result<(Self, WorkersEnds)> {
        let naming = |it: &Redirect| it.is_prefixed().then(|| name.map(str::to_owned));
        let (tail, stderr) = Relayed::new(Relay::get(Stream::Stderr)?, naming(stderr))?;
        let shown = naming(stdout).map(|it| Relayed::new(Relay::get(Stream::Stdout)?, Some(it)));
        let (shown, stdout) = shown.transpose()?.unzip();
        let outputs = Self { stderr: Some(tail), stdout: shown };
        Ok((outputs, WorkersEnds { stderr: Some(stderr), stdout }))
    }

    /// Begins to relay what a process writes that has just been started.
    pub(super) fn begin(&self, pid: u32) -> io::Result<()> {
        self.name(pid);
        self.all().try_for_each(|it| it.relay.watch(it))
    }

    /// Says what the process is called that writes: not always what was started.
    pub(super) fn name(&self, pid: u32) {
        self.all().for_each(|it| it.name(pid));
    }

    /// Receives what has been written so far, and has it passed on.
    pub(super) fn receive(&self) {
        for relayed in self.all() {
            if relayed.receive() {
                // Its thread hears of what stands in the pipe, where nothing stands any more.
                relayed.relay.wake();
            }
        }
    }

    /// Returns the last lines of stderr that have been received.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.stderr.as_ref().map_or_else(Vec::new, |it| it.state().tail.lines())
    }

    /// Has what all workers have written so far passed on: this process is about to end.
    ///
    /// It does not wait for long: whoever reads our output may have stopped to.
    pub(crate) fn flush_all() {
        let began = Instant::now();
        for relay in [&STDOUT, &STDERR].into_iter().filter_map(OnceLock::get) {
            relay.flush(FLUSH_TIMEOUT.saturating_sub(began.elapsed()));
        }
    }

    /// Does so when this thread ends, where the system tells: for a thread that is the main one.
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

/// One output of one worker.
struct Relayed {
    pipe: PipeReader,
    relay: &'static Relay,
    /// Whether its lines get a name in front, and which.
    naming: Option<Option<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tail: Tail,
    /// What stands in front of each line; none if the bytes are passed on as they come.
    prefix: Option<String>,
    lines: Lines,
    unwritten: Vec<u8>,
    ended: bool,
}

impl Relayed {
    fn new(
        relay: &'static Relay,
        naming: Option<Option<String>>,
    ) -> io::Result<(Arc<Self>, PipeWriter)> {
        let (pipe, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok((Arc::new(Self { pipe, relay, naming, state: Mutex::default() }), writer))
    }

    fn name(&self, pid: u32) {
        let prefix = self.naming.as_ref().map(|name| match name {
            Some(name) => format!("[{name}] "),
            None => format!("[pid {pid}] "),
        });
        self.state().prefix = prefix;
    }

    /// Receives what has been written, some of it if that is much; `false` if that is nothing.
    fn receive(&self) -> bool {
        let mut state = self.state();
        let (mut buffer, mut received) = ([0; 4096], 0);
        while !state.ended && received < TURN {
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

    /// Writes what has been received; `false` after the end.
    fn forward(&self) -> bool {
        let mut state = self.state();
        let (unwritten, ended) = (mem::take(&mut state.unwritten), state.ended);
        // Its lock is not held while writing: that may take as long as a person holds a terminal.
        drop(state);
        if !unwritten.is_empty() {
            self.relay.write(&unwritten);
        }
        !ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding this lock")
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

/// A thread that relays to one stream. That may block, and so the thread does nothing else, and
/// nobody else does it.
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

/// How often the thread was asked to pass everything on, and up to which it has.
#[derive(Default)]
struct Flushes {
    asked: u64,
    done: u64,
}

/// Marks an event as a wish to pass on what has been received, or everything.
const WAKE: u64 = u64::MAX;

static STDOUT: OnceLock<Arc<Relay>> = OnceLock::new();
static STDERR: OnceLock<Arc<Relay>> = OnceLock::new();

impl Relay {
    /// Returns that of a stream; its thread starts with the first use.
    fn get(stream: Stream) -> io::Result<&'static Self> {
        static STARTING: Mutex<()> = Mutex::new(());
        let relay = match stream {
            Stream::Stdout => &STDOUT,
            Stream::Stderr => &STDERR,
        };
        if let Some(relay) = relay.get() {
            return Ok(relay);
        }
        // What fails now, because threads or descriptors have run out, may succeed later.
        let _guard = STARTING.lock();
        if let Some(relay) = relay.get() {
            return Ok(relay);
        }
        let new = Arc::new(Self::new(stream)?);
        let relaying = new.clone();
        // Without it the pipes would fill up, and workers stop in the middle of a line.
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
                Err(errno) => panic!("wait for the {} of workers: {errno}", self.stream),
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.pass_on(),
                    index => self.relay(index as usize),
                }
            }
        }
    }

    /// Passes on all that has been written; if somebody waits for it, lines that are not whole among
    /// them.
    fn pass_on(&self) {
        let Flushes { asked, done } = *self.flushes();
        let watched: Vec<_> = self.watched().iter().flatten().cloned().collect();
        for relayed in watched {
            relayed.receive();
            if asked != done {
                relayed.state().finish();
            }
            relayed.forward();
        }
        self.flushes().done = asked;
        self.flushed.notify_all();
    }

    /// Has that done, and waits for it, but not longer than this.
    fn flush(&self, limit: Duration) {
        // A forked child does not have the thread.
        if self.origin.is_other_process() {
            return;
        }
        let mut flushes = self.flushes();
        flushes.asked += 1;
        let mine = flushes.asked;
        self.wake();
        let _ = self.flushed.wait_timeout_while(flushes, limit, |it| it.done < mine);
    }

    fn wake(&self) {
        // It fails only where the thread has 2^64 reasons to wake up already.
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

    /// Writes to this process's own stream, or nowhere if that is closed.
    ///
    /// The lock of `print!` and `eprint!` keeps lines of this process whole, which reach the
    /// descriptor in several pieces. The relay does without it where other code does not release
    /// it: that code may wait for a worker that is held up by its output.
    fn write(&self, bytes: &[u8]) {
        self.lock.with(|| {
            let _ = match self.stream {
                Stream::Stdout => write(rustix::stdio::stdout(), bytes),
                Stream::Stderr => write(rustix::stdio::stderr(), bytes),
            };
        });
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect("nobody panics while holding this lock")
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Option<Arc<Relayed>>>> {
        self.watched.lock().expect("nobody panics while holding this lock")
    }
}

/// Writes whole lines, as many at once as nobody else's can come between.
fn write(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    let is_end = |it: &u8| *it == b'\n';
    while !bytes.is_empty() {
        let atomic = &bytes[..bytes.len().min(IN_ONE_PIECE)];
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
