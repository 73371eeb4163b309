//! The worker's end of its control connection, and the control thread, which receives the commands of
//! the master.
//!
//! The control thread never waits for a lock or a resource that user code may hold. So it answers
//! while functions compute, and it reliably ends the process after the end of the master.

use std::io;
use std::os::fd::AsFd;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rpc_parallel_os::Termination;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::{
    Signal, getpid, kill_process, kill_process_group, set_parent_process_death_signal,
};
use tokio::sync::mpsc::UnboundedSender;

use super::children::Children;
use super::control_command::{ConnectionUse, ControlCommand, ReceivedCommand};
use super::control_event::ControlEvent;
use super::exit::exit_process;
use super::heartbeat::{HeartbeatAction, HeartbeatMonitor};
#[cfg(feature = "pool")]
use super::items_thread::serve_items;
use super::link::Link;
use super::parent_exit::is_parent_exiting;
use super::runtime_command::{NewConnection, RuntimeCommand};
use super::supervised::ENDING_TIMEOUT;
use super::thread::{start_thread, start_thread_on_this_cpu};
use crate::connection::write_queued_frames;
use crate::transport::{Fault, Origin};
use crate::wire::{PanicReport, Settings};
use crate::worker::WorkerStats;

/// How long a worker may take to end after the end of its master, before it kills itself.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The pause before a heartbeat that failed because memory is short is sent again.
const PONG_RETRY: Duration = Duration::from_millis(100);

/// The exit code of a process that failed to become a worker, of a worker whose master or owning
/// connection failed, and of a worker with a panic outside of any call.
pub(super) const EXIT_FAILED: i32 = 254;

/// The worker's end of its control connection.
pub(super) struct ControlEnd {
    link: Link,
    /// The process of the worker. Children that user code forks send no events.
    origin: Origin,
    /// Held while an event is sent, so that events of several threads do not mix.
    sending: Mutex<()>,
    /// Whether this process keeps running after the end of its master.
    is_detached: AtomicBool,
    /// Whether the process group of this process is killed at its end.
    kills_children: AtomicBool,
    /// The `SIGTERM` signals of other processes than the master.
    termination: OnceLock<&'static Termination>,
    /// Whether the runtime has begun the end that such a signal has requested.
    is_shutting_down: AtomicBool,
}

static CONTROL: OnceLock<ControlEnd> = OnceLock::new();

impl ControlEnd {
    /// Stores the link for the lifetime of this process.
    pub(super) fn init(link: Link) -> &'static Self {
        let (sending, is_detached) = (Mutex::new(()), AtomicBool::new(false));
        let kills_children = AtomicBool::new(false);
        let origin = Origin::here();
        let (termination, is_shutting_down) = (OnceLock::new(), AtomicBool::new(false));
        CONTROL.get_or_init(|| Self {
            link,
            origin,
            sending,
            is_detached,
            kills_children,
            termination,
            is_shutting_down,
        })
    }

    /// Turns the first `SIGTERM` that does not come from the master into an orderly end.
    pub(super) fn watch_termination(&self, master: u32) -> io::Result<()> {
        if let Some(termination) = Termination::watch(master)? {
            let _ = self.termination.set(termination);
        }
        Ok(())
    }

    /// Lets this process kill its process group at its end, unless the master then lives, which kills
    /// the group itself.
    pub(super) fn kill_children_at_end(&self) {
        self.kills_children.store(true, Ordering::Relaxed);
    }

    /// Kills the process group of this process, and so this process, if
    /// [`kill_children_at_end`](Self::kill_children_at_end) was called and the master has ended. The end
    /// of the master may be why this process ends, when the control connection is not closed yet.
    pub(super) fn kill_children_if_orphan(&self) {
        let kills_children = self.kills_children.load(Ordering::Relaxed);
        if kills_children && (self.link.is_closed() || is_parent_exiting()) {
            // It fails if this process leads no group, so that the group is not its own.
            let _ = kill_process_group(getpid(), Signal::KILL);
        }
    }

    /// Records that the runtime has begun the end that `SIGTERM` has requested.
    pub(super) fn begin_shutdown(&self) {
        self.is_shutting_down.store(true, Ordering::Release);
    }

    /// Ends this process by `SIGTERM`, which it has received.
    pub(super) fn end_by_termination(&self) -> ! {
        self.kill_children_if_orphan();
        match self.termination.get() {
            Some(termination) => termination.end(),
            None => unreachable!("only a received signal leads here"),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends an event to the master.
    ///
    /// A send that fails because memory is short is retried for 1 s, and blocks the thread.
    ///
    /// # Errors
    ///
    /// The event has not reached the master, or only its beginning has.
    pub(super) fn send_event(&self, event: &ControlEvent) -> io::Result<()> {
        if self.origin.is_other_process() {
            return Ok(());
        }
        let _guard = self.sending.lock();
        self.link.send(&event.encode())
    }

    /// Starts the control thread. It notices the end of the master and leaves the worker time to
    /// clean up, which the kernel's death signal does not.
    pub(super) fn spawn_thread(
        &'static self,
        settings: Settings,
        commands: UnboundedSender<RuntimeCommand>,
    ) -> io::Result<()> {
        // Neither this thread nor the master, which is about to send a call, waits for the new thread.
        start_thread_on_this_cpu(
            "rpc-parallel control",
            Box::new(move || self.run(settings, commands)),
        )?;
        // The thread ends the process after the end of the master, for which the process must not
        // be stopped: `SIGCONT` resumes it. If the call fails, the earlier death signal stays in
        // force, which is wrong only for a detached worker.
        let _ = set_parent_process_death_signal(Some(Signal::CONT));
        Ok(())
    }

    /// Starts a thread that kills this process after the end of the master, for the time before the
    /// control thread runs.
    pub(super) fn watch_master(&'static self) -> io::Result<()> {
        let watch = || {
            self.link.wait_for_end();
            self.kill_after_grace_period();
        };
        start_thread("rpc-parallel watch", Box::new(watch))
    }

    fn run(&self, settings: Settings, commands: UnboundedSender<RuntimeCommand>) {
        self.receive_commands(&commands, settings);
        if self.is_detached() {
            // The queue stays open, because its end would end the worker.
            std::mem::forget(commands);
            return;
        }
        // The workers of this worker end with it. Their control sockets are closed at once, so that
        // a tree of processes ends within the time of a few messages.
        Children::get().close_control();
        drop(commands);
        self.kill_after_grace_period();
    }

    /// Waits for the owning connection, which the master sends right after the start message.
    /// Returns `None` if the master has ended.
    pub(super) fn receive_connection(&self) -> io::Result<Option<NewConnection>> {
        match self.link.receive()? {
            Some(ReceivedCommand::Connection(ConnectionUse::Calls, connection)) => {
                Ok(Some(connection))
            }
            Some(ReceivedCommand::MissingDescriptor(error)) => Err(error),
            Some(_) => Err(io::Error::other("expected a connection, found another command")),
            None => Ok(None),
        }
    }

    fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Acquire)
    }

    /// Handles the commands of the master until it has ended, or misses heartbeats for too long.
    fn receive_commands(&self, commands: &UnboundedSender<RuntimeCommand>, settings: Settings) {
        let begin =
            |limit| HeartbeatMonitor::passive(settings.heartbeat_period(), limit, Instant::now());
        let mut heartbeat = settings.heartbeat_timeout().map(begin);
        // Started with the first connection for items.
        #[cfg(feature = "pool")]
        let mut items_thread = None;
        // Whether a heartbeat could not be sent.
        let mut pong_due = false;
        // When the process must have ended because of `SIGTERM`, and whether `on_shutdown` runs.
        let (mut end_by, mut shuts_down) = (None, false);
        loop {
            let heartbeat_due = heartbeat.as_ref().map(HeartbeatMonitor::next);
            let due = [heartbeat_due, end_by].into_iter().flatten().min();
            let left = due.map(|it| it.saturating_duration_since(Instant::now()));
            let left = if pong_due {
                Some(left.map_or(PONG_RETRY, |it| it.min(PONG_RETRY)))
            } else {
                left
            };
            let left = left.map(|it| {
                Timespec::try_from(it).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
            });
            let termination = self.termination.get().copied();
            let woken = match self.link.wait(termination.map(AsFd::as_fd), left.as_ref()) {
                Ok(woken) => woken,
                Err(errno) if Fault::of(&errno.into()) == Fault::Transient => {
                    if errno != Errno::INTR {
                        thread::sleep(PONG_RETRY);
                    }
                    continue;
                }
                Err(_) => return,
            };
            let now = Instant::now();
            if let Some(termination) = termination {
                let is_late = end_by.is_some_and(|it| it <= now);
                if is_late && !shuts_down && self.is_shutting_down.load(Ordering::Acquire) {
                    (end_by, shuts_down) = (Some(now + ENDING_TIMEOUT), true);
                } else if is_late || (woken.by_other && end_by.is_some()) {
                    termination.end();
                } else if woken.by_other {
                    termination.clear();
                    // A function that computes cannot be waited for.
                    end_by = Some(now + GRACE_PERIOD);
                    let _ = commands.send(RuntimeCommand::Terminate);
                }
            }
            if !woken.by_command {
                if pong_due {
                    pong_due = !self.send_pong();
                }
                let polled = heartbeat.as_mut().filter(|it| it.next() <= now);
                let polled = polled.map(|it| it.poll(now));
                if let Some(HeartbeatAction::Dead(silent_for)) = polled {
                    let _ = commands.send(RuntimeCommand::MasterTimedOut { silence: silent_for });
                    return;
                }
                continue;
            }
            let Ok(Some(received)) = self.link.receive() else { return };
            if let Some(heartbeat) = &mut heartbeat {
                heartbeat.record_activity(Instant::now());
            }
            let command = match received {
                ReceivedCommand::Plain(ControlCommand::Ping) => {
                    pong_due = !self.send_pong();
                    continue;
                }
                ReceivedCommand::Plain(ControlCommand::Stats) => {
                    let _ = self.send_event(&ControlEvent::Stats(Box::new(WorkerStats::here())));
                    continue;
                }
                ReceivedCommand::Plain(ControlCommand::Detach) => {
                    self.is_detached.store(true, Ordering::Release);
                    // A detached worker does not need its master.
                    heartbeat = None;
                    continue;
                }
                ReceivedCommand::Plain(ControlCommand::End { within }) => {
                    RuntimeCommand::End { within }
                }
                ReceivedCommand::Connection(ConnectionUse::Calls, connection) => {
                    RuntimeCommand::Connection(connection)
                }
                // The items thread gets the connection from here, because the runtime may be busy.
                #[cfg(feature = "pool")]
                ReceivedCommand::Connection(ConnectionUse::Items, connection) => {
                    match serve_items(&mut items_thread, connection, settings) {
                        Ok(()) => continue,
                        Err(error) => RuntimeCommand::MissingDescriptor(error),
                    }
                }
                ReceivedCommand::Listener(listener) => RuntimeCommand::Listener(listener),
                // The runtime writes the diagnostic, because stderr may be full and block this
                // thread.
                ReceivedCommand::MissingDescriptor(error) => {
                    RuntimeCommand::MissingDescriptor(error)
                }
            };
            let _ = commands.send(command);
        }
    }

    /// Answers a ping with a heartbeat. Returns `false` if it must be sent again.
    fn send_pong(&self) -> bool {
        // Other errors mean that the master has ended, which the next poll notices.
        self.send_event(&ControlEvent::Pong)
            .map_or_else(|it| Fault::of(&it) != Fault::Transient, |()| true)
    }

    /// Kills this process after the grace period.
    fn kill_after_grace_period(&self) {
        thread::sleep(GRACE_PERIOD);
        // `Detach` may have been handled after the end of the master was noticed.
        if !self.is_detached() {
            self.kill_children_if_orphan();
            let _ = kill_process(getpid(), Signal::KILL);
            // The init process of a PID namespace cannot kill itself.
            process::abort();
        }
    }
}

/// Ends this process because of an unhandled panic, which is reported to the master.
pub(super) fn end_by_panic(panic: PanicReport) {
    let control = CONTROL.get();
    if let Some(control) = control {
        // A child that user code has forked is not a worker: the panic ends only its thread.
        if control.origin.is_other_process() {
            return;
        }
        write_queued_frames();
        let _ = control.send_event(&ControlEvent::Panicked(panic));
    }
    // With `panic = "abort"` the process is about to abort.
    if !cfg!(panic = "abort") {
        if let Some(control) = control {
            control.kill_children_if_orphan();
        }
        exit_process(EXIT_FAILED);
    }
}
