//! Acquires the locks of std's stdout and stderr with a timeout.
//!
//! User code may hold such a lock for any time, for example while it awaits a worker
//! that prints. std has no `try_lock`, so a thread that does nothing else waits for the lock.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::thread::start_thread;

/// How long a write waits for the lock before it continues without the lock.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// One of std's streams.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The lock of one of std's streams.
///
/// The first use starts the locking thread, which runs until the process ends.
pub(super) struct StdioLock(Arc<Shared>);

/// The state that the writing thread and the locking thread share.
struct Shared {
    stream: Stream,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The locking thread does not exist yet.
    NotStarted,
    /// The locking thread does not hold the lock.
    Idle,
    /// The writing thread waits for the lock.
    Wanted,
    /// The locking thread holds the lock for the writing thread.
    Held,
    /// The writing thread has timed out: the locking thread releases the lock as soon as it gets
    /// it.
    Abandoned,
}

impl StdioLock {
    pub(super) fn new(stream: Stream) -> Self {
        let (state, changed) = (Mutex::new(State::NotStarted), Condvar::new());
        Self(Arc::new(Shared { stream, state, changed }))
    }

    /// Runs a closure under the lock, or without the lock if other code holds it for longer than
    /// [`LOCK_TIMEOUT`]. Later calls do not wait again until that code has released the lock.
    pub(super) fn with(&self, run: impl FnOnce()) {
        let held = self.acquire();
        run();
        if held {
            self.0.set(State::Idle);
        }
    }

    fn acquire(&self) -> bool {
        let mut state = self.0.state();
        if *state == State::NotStarted {
            let shared = self.0.clone();
            let serve = Box::new(move || shared.serve_requests());
            if start_thread("rpc-parallel lock", serve).is_err() {
                // The thread limit is reached. The next write tries again.
                return false;
            }
            *state = State::Idle;
        }
        if *state == State::Abandoned {
            return false;
        }
        *state = State::Wanted;
        self.0.changed.notify_all();
        let is_wanted = |it: &mut State| *it == State::Wanted;
        let waited = self.0.changed.wait_timeout_while(state, LOCK_TIMEOUT, is_wanted);
        let (mut state, _) = waited.expect(NO_PANIC);
        if *state == State::Wanted {
            *state = State::Abandoned;
        }
        *state == State::Held
    }
}

impl Shared {
    fn serve_requests(&self) {
        loop {
            self.wait_while(|it| it != State::Wanted);
            match self.stream {
                Stream::Stdout => self.hold(io::stdout().lock()),
                Stream::Stderr => self.hold(io::stderr().lock()),
            }
        }
    }

    fn hold<L>(&self, _lock: L) {
        let mut state = self.state();
        if *state == State::Abandoned {
            *state = State::Idle;
            return;
        }
        *state = State::Held;
        self.changed.notify_all();
        drop(state);
        self.wait_while(|it| it == State::Held);
    }

    fn wait_while(&self, condition: impl Fn(State) -> bool) {
        let waited = self.changed.wait_while(self.state(), |it| condition(*it));
        drop(waited.expect(NO_PANIC));
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no thread panics while it holds this lock";
