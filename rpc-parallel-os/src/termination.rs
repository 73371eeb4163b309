//! `SIGTERM` as an event of a descriptor, without blocking the signal: a blocked signal stays blocked
//! in the programs that a process starts.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// What the signal handler reads. It is written before the handler is installed.
static EVENT: AtomicI32 = AtomicI32::new(-1);
static OWN_PID: AtomicI32 = AtomicI32::new(0);
static MASTER_PID: AtomicI32 = AtomicI32::new(0);

/// The `SIGTERM` signals that this process receives from other senders than its master.
#[derive(Debug)]
pub struct Termination {
    event: OwnedFd,
}

impl Termination {
    /// Turns `SIGTERM` into an event, unless the process has changed the disposition of the signal
    /// already. It is called once; later calls return the first result.
    ///
    /// A signal of the process `master` ends this process at once, as without this function, and so
    /// does any `SIGTERM` in a child that is forked without exec. A handler that the program installs
    /// later replaces this one.
    ///
    /// # Errors
    ///
    /// This process has too many open files.
    pub fn watch(master: u32) -> io::Result<Option<&'static Self>> {
        static TERMINATION: OnceLock<Option<Termination>> = OnceLock::new();
        if let Some(termination) = TERMINATION.get() {
            return Ok(termination.as_ref());
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let termination = Self { event };
        let mut is_first = false;
        let stored = TERMINATION.get_or_init(|| {
            is_first = true;
            (action() == Some(libc::SIG_DFL)).then_some(termination)
        });
        if let Some(stored) = stored
            && is_first
        {
            EVENT.store(stored.event.as_raw_fd(), Ordering::Relaxed);
            OWN_PID.store(own_pid(), Ordering::Relaxed);
            MASTER_PID.store(i32::try_from(master).unwrap_or(0), Ordering::Relaxed);
            set_action(own_handler());
        }
        Ok(stored.as_ref())
    }

    /// Resets the event, so that the next signal is an event again.
    pub fn clear(&self) {
        // It fails only if no signal has arrived.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Ends this process by `SIGTERM`.
    pub fn end(&self) -> ! {
        set_action(libc::SIG_DFL);
        // SAFETY: it takes no pointers. The default action of the signal ends the process, unless it
        // is process 1 of a PID namespace or the signal is blocked.
        unsafe { libc::raise(libc::SIGTERM) };
        crate::exit_immediately(128 + libc::SIGTERM)
    }
}

impl AsFd for Termination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

fn own_pid() -> i32 {
    // SAFETY: it takes no arguments and always succeeds.
    unsafe { libc::getpid() }
}

/// Returns the handler of the signal, or `SIG_DFL` or `SIG_IGN`. It is async-signal-safe.
fn action() -> Option<usize> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the pointer to the old action is valid for writes, and no new action is given.
    let read = unsafe { libc::sigaction(libc::SIGTERM, ptr::null(), action.as_mut_ptr()) };
    if read != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so it has written the action.
    Some(unsafe { action.assume_init() }.sa_sigaction)
}

fn own_handler() -> usize {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    handler as usize
}

fn set_action(handler: usize) {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the pointer to the action is valid for reads, and the old action is not wanted. The
    // handler has the signature that `SA_SIGINFO` requires, or is `SIG_DFL`, which ignores the flag.
    unsafe { libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut()) };
}

/// The signal handler. It calls only functions that are async-signal-safe, and keeps `errno`.
extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the pointer is that of this thread, and valid as long as the thread runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { errno.read() };
    // SAFETY: the kernel passes a valid pointer to a handler with `SA_SIGINFO`.
    let info = unsafe { &*info };
    // SAFETY: the process that sent the signal is valid for signals of `kill` and its relatives, and
    // `SIGTERM` is never sent by the kernel for another reason.
    let sender = unsafe { info.si_pid() };
    let is_own = own_pid() == OWN_PID.load(Ordering::Relaxed);
    if action() != Some(own_handler()) {
        // The program has installed a handler since, which calls the one that it has replaced. It
        // decides what the signal does.
    } else if is_own && sender != MASTER_PID.load(Ordering::Relaxed) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the buffer has eight bytes. The descriptor is open as long as the process runs,
        // because it is in a static.
        unsafe { libc::write(EVENT.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
    } else {
        set_action(libc::SIG_DFL);
        // SAFETY: it takes no pointers. The signal is delivered when this handler returns.
        unsafe { libc::raise(libc::SIGTERM) };
    }
    // SAFETY: as above.
    unsafe { errno.write(saved) };
}
