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
use super::liveness::{Silence, Verdict};
use super::order::Order;
use super::start::Report;
use super::thread::start_thread;
use crate::transport::{Fault, Origin, send};
use crate::wire::{Panic, Settings};
use crate::worker::WorkerStats;

/// How long a worker whose master is gone may take to drop what it holds.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// After how long a sign of life is sent again that could not be sent because memory is short.
const OWED: Duration = Duration::from_millis(100);

/// The exit code of a worker that did not become one, that lost its master, or that had a panic
/// outside of any call.
pub(super) const FAILED: i32 = 254;

/// The worker's end of its control socket.
pub(super) struct Control {
    socket: OwnedFd,
    /// The worker. A child that user code forks from it reports nothing.
    origin: Origin,
    /// Reports of several threads must not mix.
    reporting: Mutex<()>,
    /// This process need not end with its master.
    lives_on: AtomicBool,
}

/// What the runtime of the worker is told.
pub(super) enum Ordered {
    Connection(OwnedFd),
    Listener(OwnedFd),
    End {
        within: Duration,
    },
    /// There was something to take, which could not be taken.
    Lost(io::Error),
    /// The master has given no sign of life for so long.
    MasterLost {
        silence: Duration,
    },
}

static CONTROL: OnceLock<Control> = OnceLock::new();

impl Control {
    /// Keeps the socket for the life of this process.
    pub(super) fn keep(socket: OwnedFd) -> &'static Self {
        let (reporting, lives_on) = (Mutex::new(()), AtomicBool::new(false));
        let origin = Origin::here();
        CONTROL.get_or_init(|| Self { socket, origin, reporting, lives_on })
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
    pub(super) fn report(&self, report: &Report) -> io::Result<()> {
        if self.origin.is_elsewhere() {
            return Ok(());
        }
        let _guard = self.reporting.lock();
        send(&self.socket, &report.encode(), &[])
    }

    /// Has a thread hear the master, and see its end, which leaves time to clean up; the kernel's
    /// death signal would not.
    pub(super) fn attend(
        &'static self,
        settings: Settings,
        orders: UnboundedSender<Ordered>,
    ) -> io::Result<()> {
        start_thread("rpc-parallel control", Box::new(move || self.run(settings, orders)))?;
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

    fn run(&self, settings: Settings, orders: UnboundedSender<Ordered>) {
        let begin = |limit| Silence::of_asking(settings.beat_interval(), limit, Instant::now());
        self.hear(&orders, settings.liveness_timeout().map(begin));
        if self.lives_on() {
            // Nobody closes this queue: that would mean the end.
            std::mem::forget(orders);
            return;
        }
        // Workers of this one end with it, and need not wait for that.
        Children::get().abandon_all();
        drop(orders);
        self.end_soon();
    }

    fn lives_on(&self) -> bool {
        self.lives_on.load(Ordering::Acquire)
    }

    /// Does what the master orders until it is gone, or silent for too long.
    fn hear(&self, orders: &UnboundedSender<Ordered>, mut silence: Option<Silence>) {
        // A sign of life that could not be sent.
        let mut owed = false;
        loop {
            let left =
                silence.as_ref().map(|it| it.next().saturating_duration_since(Instant::now()));
            let left = if owed { Some(left.map_or(OWED, |it| it.min(OWED))) } else { left };
            let left = left.map(|it| {
                Timespec::try_from(it).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
            });
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], left.as_ref()) {
                Ok(0) => {
                    if owed {
                        owed = !self.give_sign_of_life();
                    }
                    let now = Instant::now();
                    let looked = silence.as_mut().filter(|it| it.next() <= now);
                    let looked = looked.map(|it| it.look(now));
                    if let Some(Verdict::Lost(silence)) = looked {
                        let _ = orders.send(Ordered::MasterLost { silence });
                        return;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(errno) if Fault::of(&errno.into()) == Fault::Transient => {
                    if errno != Errno::INTR {
                        thread::sleep(OWED);
                    }
                    continue;
                }
                Err(_) => return,
            }
            let Ok(Some(order)) = Order::receive(&self.socket) else { return };
            if let Some(silence) = &mut silence {
                silence.broken(Instant::now());
            }
            let ordered = match order {
                Order::Ask => {
                    owed = !self.give_sign_of_life();
                    continue;
                }
                Order::Stats => {
                    let _ = self.report(&Report::Stats(Box::new(WorkerStats::here())));
                    continue;
                }
                Order::Connection(socket) => Ordered::Connection(socket),
                Order::Listener(listener) => Ordered::Listener(listener),
                Order::End { within } => Ordered::End { within },
                // Not told here: stderr may be full, and locked by what waits for that.
                Order::Lost(error) => Ordered::Lost(error),
                Order::LiveOn => {
                    self.lives_on.store(true, Ordering::Release);
                    // Who lives on does not care.
                    silence = None;
                    continue;
                }
            };
            let _ = orders.send(ordered);
        }
    }

    /// Answers the master's question whether this process lives, and says whether it need not be
    /// tried again.
    fn give_sign_of_life(&self) -> bool {
        // It fails otherwise only where the master is gone, which is noticed soon.
        self.report(&Report::Alive).map_or_else(|it| Fault::of(&it) != Fault::Transient, |()| true)
    }

    /// Ends this process, whatever it does, when it has had its time.
    fn end_soon(&self) {
        thread::sleep(GRACE);
        // The last order may have been seen later than the end of the master.
        if !self.lives_on() {
            let _ = kill_process(getpid(), Signal::KILL);
            // The first process of a namespace cannot kill itself.
            process::abort();
        }
    }
}

/// Ends this process, because there was a panic that nobody handles.
pub(super) fn end_by_panic(panic: Panic) {
    if let Some(control) = CONTROL.get() {
        // A child that user code has forked is no worker: its panic ends one thread of it.
        if control.origin.is_elsewhere() {
            return;
        }
        let _ = control.report(&Report::Panicked(panic));
    }
    // Where panics abort, this one is about to: that is how such a program dies.
    if !cfg!(panic = "abort") {
        process::exit(FAILED);
    }
}
