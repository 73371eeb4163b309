//! The stderr of the workers on its way to the stderr of their master, and its last lines.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustix::event::epoll;
use rustix::io::Errno;

/// How much is remembered of what a worker wrote.
const KEPT_BYTES: usize = 4 * 1024;
const KEPT_LINES: usize = 20;

/// The stderr of one worker.
pub(crate) struct Tail {
    pipe: io::PipeReader,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: VecDeque<u8>,
    unwritten: Vec<u8>,
    ended: bool,
}

impl Tail {
    /// Makes the pipe of one worker's stderr, and begins to relay it.
    pub(super) fn new() -> io::Result<(Arc<Self>, io::PipeWriter)> {
        let (pipe, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let tail = Arc::new(Self { pipe, state: Mutex::default() });
        Relay::get()?.watch(&tail)?;
        Ok((tail, writer))
    }

    /// Receives what has been written so far.
    pub(super) fn receive(&self) {
        let mut state = self.state();
        let mut buffer = [0; 4096];
        while !state.ended {
            match (&self.pipe).read(&mut buffer) {
                Ok(0) => state.ended = true,
                Ok(received) => state.add(&buffer[..received]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => state.ended = true,
            }
        }
    }

    /// Writes what all workers have written so far: this process is about to end.
    pub(crate) fn flush_all() {
        let Some(relay) = Relay::existing().get() else { return };
        let watched: Vec<_> = relay.watched().iter().flatten().cloned().collect();
        for tail in watched {
            tail.receive();
            tail.forward();
        }
    }

    /// Returns the last lines that have been received.
    pub(super) fn lines(&self) -> Vec<String> {
        let state = self.state();
        let last: Vec<u8> = state.last.iter().copied().collect();
        let text = String::from_utf8_lossy(&last);
        let cut = usize::from(last.len() == KEPT_BYTES);
        let lines = text.lines().skip(cut).skip_while(|it| it.trim().is_empty());
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        lines[lines.len().saturating_sub(KEPT_LINES)..].to_vec()
    }

    /// Writes what has been received to this process's stderr; `false` after the end.
    fn forward(&self) -> bool {
        let mut state = self.state();
        let (unwritten, ended) = (mem::take(&mut state.unwritten), state.ended);
        // The lock is not held while writing: that may take as long as a person holds a terminal.
        drop(state);
        // Where stderr is closed there is nobody to tell.
        let _ = io::stderr().write_all(&unwritten);
        !ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding this lock")
    }
}

impl State {
    fn add(&mut self, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
        self.last.extend(bytes);
        let surplus = self.last.len().saturating_sub(KEPT_BYTES);
        self.last.drain(..surplus);
    }
}

impl AsFd for Tail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The thread that relays. It writes to a stderr that may block, and so does nothing else.
struct Relay {
    epoll: std::os::fd::OwnedFd,
    watched: Mutex<Vec<Option<Arc<Tail>>>>,
}

impl Relay {
    fn existing() -> &'static OnceLock<Self> {
        static RELAY: OnceLock<Relay> = OnceLock::new();
        &RELAY
    }

    /// Returns the one of this process; its thread starts with the first use.
    fn get() -> io::Result<&'static Self> {
        if let Some(relay) = Self::existing().get() {
            return Ok(relay);
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut first = false;
        let relay = Self::existing().get_or_init(|| {
            first = true;
            Self { epoll, watched: Mutex::default() }
        });
        if first {
            let thread = std::thread::Builder::new().name("rpc-parallel stderr".into());
            // Without it the pipes would fill up, and workers stop in the middle of a line.
            thread.spawn(|| relay.run())?;
        }
        Ok(relay)
    }

    fn watch(&self, tail: &Arc<Tail>) -> io::Result<()> {
        let mut watched = self.watched();
        let index = watched.iter().position(Option::is_none).unwrap_or(watched.len());
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, tail, data, epoll::EventFlags::IN)?;
        if index == watched.len() {
            watched.push(None);
        }
        watched[index] = Some(tail.clone());
        Ok(())
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("wait for the stderr of workers: {errno}"),
            }
            for event in &events {
                self.relay(event.data.u64() as usize);
            }
        }
    }

    fn relay(&self, index: usize) {
        let tail = self.watched().get(index).cloned().flatten();
        let Some(tail) = tail else { return };
        tail.receive();
        if !tail.forward() {
            let _ = epoll::delete(&self.epoll, &tail);
            self.watched()[index] = None;
        }
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Option<Arc<Tail>>>> {
        self.watched.lock().expect("nobody panics while holding this lock")
    }
}
