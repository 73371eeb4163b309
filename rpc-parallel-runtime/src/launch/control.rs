//! The worker's end of its control socket: what it reports, and the thread that hears its master.
//!
//! That thread waits for nothing that user code could hold. So it answers while functions compute,
//! and the end of the process is certain when the master is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use tokio::sync::mpsc::UnboundedSender;

use super::children::Children;
use super::control_command::ControlCommand;
use super::heartbeat::{HeartbeatAction, HeartbeatMonitor};
use super::start::ControlEvent;
use super::thread::start_thread;
use crate::transport::{Fault, Origin, send};
use crate::wire::{PanicReport, Settings};
use crate::worker::WorkerStats;

/// How long a worker whose master is gone may take to drop what it holds.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// After how long a sign of life is sent again that could not be sent because memory is short.
const PONG_RETRY: Duration = Duration::from_millis(100);

/// The exit code of a worker that did not become one, that lost its master, or that had a panic
/// outside of any call.
pub(super) const EXIT_FAILED: i32 = 254;

/// The worker's end of its control socket.
pub(super) struct Control {
    socket: OwnedFd,
    /// The worker. A child that user code forks from it reports nothing.
    origin: Origin,
    /// Reports of several threads must not mix.
    reporting: Mutex<()>,
    /// This process need not end with its master.
    is_detached: AtomicBool,
}

/// What the runtime of the worker is told.
pub(super) enum RuntimeCommand {
    Connection(OwnedFd),
    Listener(OwnedFd),
    End {
        within: Duration,
    },
    /// There was something to take, which could not be taken.
    MissingDescriptor(io::Error),
    /// The master has given no sign of life for so long.
    MasterTimedOut {
        silence: Duration,
    },
}

static CONTROL: OnceLock<Control> = OnceLock::new();

impl Control {
    /// Keeps the socket for the life of this process.
    pub(super) fn keep(socket: OwnedFd) -> &'static Self {
        let (reporting, is_detached) = (Mutex::new(()), AtomicBool::new(false));
        let origin = Origin::here();
        CONTROL.get_or_init(|| Self { socket, origin, reporting, is_detached })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reports something to the master.
    ///
    /// Where sending fails because memory is short it is retried for 1 s, and the thread blocks
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// The report has not reached the master, or only its beginning.
    pub(super) fn report(&self, report: &ControlEvent) -> io::Result<()> {
        if self.origin.is_other_process() {
            return Ok(());
        }
        let _guard = self.reporting.lock();
        send(&self.socket, &report.encode(), &[])
    }

    /// Has a thread hear the master, and see its end, which leaves time to clean up; the kernel's
    /// death signal would not.
    pub(super) fn spawn_thread(
        &'static self,
        settings: Settings,
        commands: UnboundedSender<RuntimeCommand>,
    ) -> io::Result<()> {
        start_thread("rpc-parallel control", Box::new(move || self.run(settings, commands)))?;
        // That thread ends the process when the master is gone. To do so it must not be stopped.
        // Where the signal cannot be changed it does no harm but to those who live on.
        let _ = set_parent_process_death_signal(Some(Signal::CONT));
        Ok(())
    }

    /// Has a thread end this process when the master is gone, and do nothing else: before there is
    /// anything that could be ordered.
    pub(super) fn watch(&'static self) -> io::Result<()> {
        let watch = || {
            let mut end = [PollFd::new(&self.socket, PollFlags::empty())];
            while poll(&mut end, None).is_err() {}
            self.end_soon();
        };
        start_thread("rpc-parallel watch", Box::new(watch))
    }

    fn run(&self, settings: Settings, commands: UnboundedSender<RuntimeCommand>) {
        let begin =
            |limit| HeartbeatMonitor::passive(settings.heartbeat_period(), limit, Instant::now());
        self.receive_commands(&commands, settings.heartbeat_timeout().map(begin));
        if self.is_detached() {
            // Nobody closes this queue: that would mean the end.
            std::mem::forget(commands);
            return;
        }
        // Workers of this one end with it, and need not wait for that.
        Children::get().abandon_all();
        drop(commands);
        self.end_soon();
    }

    fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Acquire)
    }

    /// Does what the master orders until it is gone, or silent for too long.
    fn receive_commands(
        &self,
        commands: &UnboundedSender<RuntimeCommand>,
        mut heartbeat: Option<HeartbeatMonitor>,
    ) {
        // A sign of life that could not be sent.
        let mut pong_due = false;
        loop {
            let left =
                heartbeat.as_ref().map(|it| it.next().saturating_duration_since(Instant::now()));
            let left = if pong_due {
                Some(left.map_or(PONG_RETRY, |it| it.min(PONG_RETRY)))
            } else {
                left
            };
            let left = left.map(|it| {
                Timespec::try_from(it).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
            });
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], left.as_ref()) {
                Ok(0) => {
                    if pong_due {
                        pong_due = !self.send_pong();
                    }
                    let now = Instant::now();
                    let polled = heartbeat.as_mut().filter(|it| it.next() <= now);
                    let polled = polled.map(|it| it.poll(now));
                    if let Some(HeartbeatAction::Dead(silent_for)) = polled {
                        let _ =
                            commands.send(RuntimeCommand::MasterTimedOut { silence: silent_for });
                        return;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(errno) if Fault::of(&errno.into()) == Fault::Transient => {
                    if errno != Errno::INTR {
                        thread::sleep(PONG_RETRY);
                    }
                    continue;
                }
                Err(_) => return,
            }
            let Ok(Some(control_command)) = ControlCommand::receive(&self.socket) else { return };
            if let Some(heartbeat) = &mut heartbeat {
                heartbeat.record_activity(Instant::now());
            }
            let command = match control_command {
                ControlCommand::Ping => {
                    pong_due = !self.send_pong();
                    continue;
                }
                ControlCommand::Stats => {
                    let _ = self.report(&ControlEvent::Stats(Box::new(WorkerStats::here())));
                    continue;
                }
                ControlCommand::Connection(socket) => RuntimeCommand::Connection(socket),
                ControlCommand::Listener(listener) => RuntimeCommand::Listener(listener),
                ControlCommand::End { within } => RuntimeCommand::End { within },
                // Not told here: stderr may be full, and locked by what waits for that.
                ControlCommand::MissingDescriptor(error) => {
                    RuntimeCommand::MissingDescriptor(error)
                }
                ControlCommand::Detach => {
                    self.is_detached.store(true, Ordering::Release);
                    // Who lives on does not care.
                    heartbeat = None;
                    continue;
                }
            };
            let _ = commands.send(command);
        }
    }

    /// Answers the master's question whether this process lives, and says whether it need not be
    /// tried again.
    fn send_pong(&self) -> bool {
        // It fails otherwise only where the master is gone, which is noticed soon.
        self.report(&ControlEvent::Pong)
            .map_or_else(|it| Fault::of(&it) != Fault::Transient, |()| true)
    }

    /// Ends this process, whatever it does, when it has had its time.
    fn end_soon(&self) {
        thread::sleep(GRACE);
        // The last order may have been seen later than the end of the master.
        if !self.is_detached() {
            let _ = kill_process(getpid(), Signal::KILL);
            // The first process of a namespace cannot kill itself.
            process::abort();
        }
    }
}

/// Ends this process, because there was a panic that nobody handles.
pub(super) fn end_by_panic(panic: PanicReport) {
    if let Some(control) = CONTROL.get() {
        // A child that user code has forked is no worker: its panic ends one thread of it.
        if control.origin.is_other_process() {
            return;
        }
        let _ = control.report(&ControlEvent::Panicked(panic));
    }
    // Where panics abort, this one is about to: that is how such a program dies.
    if !cfg!(panic = "abort") {
        process::exit(EXIT_FAILED);
    }
}
