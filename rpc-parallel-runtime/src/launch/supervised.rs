//! What the supervisor knows of one process, and how it judges its events and its end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::control_event::ControlEvent;
use super::heartbeat::HeartbeatMonitor;
use super::process::{EndKind, Process};
use super::start::StartError;
use super::starting_error::StartingError;
use crate::connection::{ExitReason, OverdueCall};
use crate::transport::Fault;
use crate::wire::{PanicReport, Settings};

/// The exit code of a worker whose `on_shutdown` exceeded its time, as in OCaml's `rpc_parallel`.
pub(super) const EXIT_FORCED: i32 = 1;

/// The default time of an orderly end.
pub(super) const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// The time from `SIGTERM` to `SIGKILL`.
pub(super) const TERMINATE_TIMEOUT: Duration = Duration::from_millis(500);

/// A process that the supervisor takes over before its launch.
pub(super) struct NewProcess {
    pub(super) process: Arc<Process>,
    pub(super) settings: Settings,
    /// Whether the future of the start waits for the hello of the worker.
    pub(super) awaits_hello: bool,
    /// Runs after the end of the process was recorded.
    pub(super) on_exit: Box<dyn FnOnce() + Send>,
}

/// One process, from its launch until it is reaped.
pub(super) struct Supervised {
    pub(super) process: Arc<Process>,
    awaits_hello: bool,
    /// Set until the end of the process is recorded.
    on_exit: Option<Box<dyn FnOnce() + Send>>,
    settings: Settings,
    /// Received bytes of an incomplete event.
    unparsed: Vec<u8>,
    pub(super) heartbeat: Option<HeartbeatMonitor>,
    panic: Option<PanicReport>,
    /// Set when the process has announced its end, which takes at most this time.
    pub(super) ending: Option<Duration>,
    /// Set when `on_shutdown` is over: whether it was in time.
    shut_down: Option<bool>,
    /// The exit code that the worker has announced.
    pub(super) exit_code: Option<i32>,
    pub(super) end: Option<EndPhase>,
    /// Whether the process closed its control connection without announcing its end.
    pub(super) closed_control: bool,
    /// Whether the control connection has ended.
    control_ended: bool,
    /// Why this process has killed the process.
    pub(super) kill_reason: Option<ExitReason>,
    /// The first call that exceeded its deadline and requested the end of the process.
    pub(super) overdue: Option<OverdueCall>,
}

/// The phase of an enforced end.
#[derive(Clone, Copy)]
pub(super) enum EndPhase {
    Requested { end_by: Instant },
    Terminated { kill_at: Instant },
}

/// The result of reading a control connection.
pub(super) enum Received {
    Events,
    Nothing,
    /// The process has closed the connection, or has sent an invalid event.
    End,
}

impl Supervised {
    pub(super) fn new(new: NewProcess) -> Self {
        let NewProcess { process, settings, awaits_hello, on_exit } = new;
        Self {
            process,
            awaits_hello,
            on_exit: Some(on_exit),
            settings,
            unparsed: Vec::new(),
            heartbeat: None,
            panic: None,
            ending: None,
            shut_down: None,
            exit_code: None,
            end: None,
            closed_control: false,
            control_ended: false,
            kill_reason: None,
            overdue: None,
        }
    }

    /// Begins to monitor the heartbeats of the process if it has begun to serve, and returns when
    /// the first ping is due.
    pub(super) fn begin_heartbeats(&mut self, now: Instant) -> Option<Instant> {
        if self.heartbeat.is_some() || self.control_ended || !self.process.progress().is_serving() {
            return None;
        }
        let limit = self.settings.heartbeat_timeout()?;
        let heartbeat = HeartbeatMonitor::active(self.settings.heartbeat_period(), limit, now);
        Some(self.heartbeat.insert(heartbeat).next())
    }

    /// Returns the time within which the process must exit, because it has announced its end or
    /// reported a panic.
    pub(super) fn end_timeout(&self) -> Option<Duration> {
        if let Some(within) = self.ending {
            // The worker enforces the time itself, and needs a moment to exit.
            return Some(within.saturating_add(TERMINATE_TIMEOUT));
        }
        // The exit runs exit handlers of the user and of libraries. With `panic = "abort"` there is
        // no limit, because a core dump may take longer.
        (self.panic.is_some() && cfg!(panic = "unwind")).then_some(ENDING_TIMEOUT)
    }

    /// Returns whether this process has requested the end, or the worker has announced it.
    fn is_end_requested(&self) -> bool {
        self.process.is_end_requested() || self.ending.is_some()
    }

    /// Stops receiving events, because the control connection has ended.
    pub(super) fn end_control(&mut self, epoll: &OwnedFd) {
        if self.control_ended {
            return;
        }
        self.control_ended = true;
        self.heartbeat = None;
        if let Some(control) = self.process.control() {
            control.deregister(epoll);
        }
        self.process.disconnect();
    }

    /// Receives the events that the process has sent until its end, and closes its control
    /// connection.
    pub(super) fn receive_last_events(&mut self, epoll: &OwnedFd) {
        while let Received::Events = self.receive_events() {}
        if let Some(control) = self.process.control() {
            // If this was a launcher's process, the worker may still run. This ends it.
            control.close();
        }
        self.end_control(epoll);
    }

    /// Records the end of the process, once.
    pub(super) fn record_end(&mut self, exit_reason: ExitReason) {
        let Some(on_exit) = self.on_exit.take() else { return };
        let overdue =
            self.overdue.filter(|_| matches!(exit_reason, ExitReason::DeadlineExceeded { .. }));
        let (kind, requested) = (self.end_kind(exit_reason), self.is_end_requested());
        self.process.record_end(exit_reason, overdue, self.panic.take(), kind, requested);
        on_exit();
    }

    /// Returns whether the end of the process, which has exited, was orderly.
    fn end_kind(&self, exit_reason: ExitReason) -> EndKind {
        let (terminated, killed) = (self.process.was_terminated(), self.process.was_killed());
        match (exit_reason, self.shut_down) {
            _ if self.panic.is_some() => EndKind::Failed,
            (ExitReason::Exited(0) | ExitReason::Unknown, Some(true)) => EndKind::Orderly,
            (ExitReason::Exited(EXIT_FORCED), Some(false)) => EndKind::Forced,
            _ if !self.is_end_requested() => EndKind::Failed,
            // A handler of `SIGTERM` may exit with any code, as may a launcher's process.
            (ExitReason::Exited(_) | ExitReason::Unknown, _) if terminated || killed => {
                EndKind::Forced
            }
            (ExitReason::ClosedControl, _) => EndKind::Forced,
            (ExitReason::Disconnected, _) if terminated || killed => EndKind::Forced,
            (ExitReason::Signaled { signal, .. }, _)
                if (terminated && signal == Signal::TERM.as_raw())
                    || (killed && signal == Signal::KILL.as_raw()) =>
            {
                EndKind::Forced
            }
            _ => EndKind::Failed,
        }
    }

    /// Reads what the control connection has, and handles the complete events.
    pub(super) fn receive_events(&mut self) -> Received {
        loop {
            let Some(control) = self.process.control() else { return Received::End };
            let mut buffer = [0; 1024];
            let received = match control.receive(&mut buffer) {
                Ok(0) => return Received::End,
                Ok(received) => received,
                Err(error) => {
                    return match Fault::of(&error) {
                        Fault::NotReady | Fault::Transient => Received::Nothing,
                        Fault::PeerGone | Fault::Fatal => Received::End,
                    };
                }
            };
            self.unparsed.extend_from_slice(&buffer[..received]);
            if let Err(error) = self.handle_events() {
                self.process.progress().failed(StartingError::Message(error));
                return Received::End;
            }
            // A stream reports bytes that it has received only once.
            if received < buffer.len() {
                return Received::Events;
            }
        }
    }

    fn handle_events(&mut self) -> Result<(), StartError> {
        while let Some((event, len)) = ControlEvent::decode(&self.unparsed)? {
            self.unparsed.drain(..len);
            self.handle_event(event);
        }
        Ok(())
    }

    pub(super) fn handle_event(&mut self, event: ControlEvent) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.record_activity(Instant::now());
        }
        match event {
            ControlEvent::Hello { pid, host } => {
                self.process.set_worker_pid(pid, host);
                self.process.progress().hello(self.awaits_hello);
            }
            // A panic of another thread was reported before, and is ending the process.
            ControlEvent::Started { .. } if self.panic.is_some() => {}
            ControlEvent::Started { listens_at } => self.process.progress().serving(listens_at),
            ControlEvent::Failed(failure) => {
                self.process.progress().failed(StartingError::Failed(failure));
            }
            ControlEvent::Panicked(panic) => {
                // The first panic is the cause, and later ones are its consequences.
                self.panic.get_or_insert(panic);
            }
            ControlEvent::Closed => self.process.close(),
            ControlEvent::Stats(stats) => self.process.deliver_stats(*stats),
            ControlEvent::Ending { within } => self.ending = Some(within),
            ControlEvent::ShutDown { in_time } => self.shut_down = Some(in_time),
            ControlEvent::Exiting { code } => {
                self.exit_code = Some(code);
                // The launcher's process may wait for the end of the stream.
                if let Some(control) = self.process.control() {
                    control.close();
                }
            }
            ControlEvent::Pong => {}
        }
    }
}
