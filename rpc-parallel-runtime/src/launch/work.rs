//! The main function of a worker process: the start handshake, the worker's runtime, and the end of
//! the process.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::process;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{gettid, set_name};

use super::boot_token::{BootToken, FileId};
use super::control_end::{ControlEnd, EXIT_FAILED, GRACE_PERIOD, end_by_panic};
use super::control_event::ControlEvent;
use super::exit::exit_process;
use super::flavor::block_on;
use super::host::Host;
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::link::Link;
use super::role::Role;
use super::serve::{Ended, ServeError, serve};
use super::start::{HEADER_LEN, Header, Start, StartError};
use super::start_failure::StartFailure;
use super::worker_index;
use crate::connection::{AnyError, diagnose, on_unhandled};
use crate::wire::host_name;
use crate::worker::greeting;

/// Runs this process as a worker, and exits with its exit code.
pub(crate) fn work() -> ! {
    let code = run().unwrap_or_else(|error| {
        // A start that the master gives up is not reported: the master has dropped its future.
        if !matches!(error, WorkError::NoMaster | WorkError::Serve(ServeError::NoMaster)) {
            let error = AnyError::from(error);
            diagnose(format_args!("failed to become a worker: {error}"));
        }
        EXIT_FAILED
    });
    exit_process(code)
}

/// A process failed to become a worker, and could not report the failure to its master.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("failed to take the control connection from stdin")]
    Socket(#[source] io::Error),
    #[error("failed to receive the start message")]
    Receive(#[source] io::Error),
    #[error("failed to decode the start message")]
    Start(#[from] StartError),
    #[error(
        "failed to decode the start message: other code read from stdin, which is the control \
         socket, before `rpc_parallel::expert::worker_main` or `#[rpc_parallel::entry]`"
    )]
    HeaderRead(#[source] StartError),
    #[error("failed to send an event to the master")]
    Send(#[source] io::Error),
    #[error("failed to handle SIGTERM")]
    Termination(#[source] io::Error),
    #[error("failed to make the tokio runtime")]
    Runtime(#[source] io::Error),
    #[error("failed to start the control thread")]
    ControlThread(#[source] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the master ended before it had sent the start message")]
    NoMaster,
    #[error("this process already has the role `{0:?}`")]
    Role(Role),
}

/// Finds the control connection of this process.
fn link() -> io::Result<Link> {
    match BootToken::inherited() {
        Some(token) if token.identifies_no_stdin() => Err(token.execute_again()),
        Some(token) if token.is_over_stdio() => {
            let (incoming, outgoing) = FileId::take_stdio()?;
            Link::stream(incoming, outgoing)
        }
        _ => Ok(Link::Socket(FileId::take_socket()?)),
    }
}

fn run() -> Result<i32, WorkError> {
    let control = ControlEnd::init(link().map_err(WorkError::Socket)?);
    let Some(StartMessage { start, init, descriptors }) = receive_start(control)? else {
        return Ok(EXIT_FAILED);
    };
    end_with_master(control, &start)?;
    #[cfg(feature = "tracing")]
    if start.spawn_defaults.worker_logs {
        crate::worker::logs::install();
    }
    worker_index::set(start.worker_index);
    on_unhandled(end_by_panic);
    name_process(start.spawn_defaults.arg0.as_deref().unwrap_or_default());
    #[cfg(feature = "pool")]
    let descriptors = JobSocket::inherit(start.job_keeper.clone(), descriptors);
    let descriptors = descriptors.into_iter();
    if let Err(failure) = start.set_up.apply([&start.stdout, &start.stderr], descriptors) {
        send_event(control, &ControlEvent::Failed(failure))?;
        return Ok(EXIT_FAILED);
    }
    if start.set_up.kill_children {
        control.kill_children_at_end();
    }
    control.watch_termination(start.master).map_err(WorkError::Termination)?;
    Role::Worker.assume(start.spawn_defaults.clone()).map_err(WorkError::Role)?;
    let host = control.link().is_stream().then(host_name);
    send_event(control, &ControlEvent::Hello { pid: process::id(), host })?;

    let runtime = start.flavor.build().map_err(WorkError::Runtime)?;
    let mut ended = Ok(Ended::Killed);
    let host = Host::Process(control);
    block_on(&runtime, pin!(async { ended = serve(start, init, &host).await }));
    // Blocking tasks that still run after the grace period end with the process.
    runtime.shutdown_timeout(GRACE_PERIOD);
    let code = match ended? {
        Ended::Exited(code) => code,
        Ended::Terminated => {
            rpc_parallel_os::flush_output();
            control.end_by_termination()
        }
        Ended::Killed => EXIT_FAILED,
    };
    if control.link().is_stream() {
        // It fails only if the master has ended.
        let _ = control.send_event(&ControlEvent::Exiting { code });
    }
    control.kill_children_if_orphan();
    Ok(code)
}

/// The start message of the master.
struct StartMessage {
    start: Start,
    /// The argument of the worker's `init`.
    init: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Receives the start message. Returns `None` if the master is of another build, after reporting
/// that.
fn receive_start(control: &ControlEnd) -> Result<Option<StartMessage>, WorkError> {
    let mut descriptors = Vec::new();
    let mut fill = |len| {
        let mut bytes = vec![0; len];
        match control.link().fill(&mut bytes, &mut descriptors) {
            Ok(received) if received == len => Ok(bytes),
            Ok(_) => Err(WorkError::NoMaster),
            Err(error) => Err(WorkError::Receive(error)),
        }
    };
    let header = fill(HEADER_LEN)?;
    let header = header.first_chunk().expect("the header has `HEADER_LEN` bytes");
    let header = Header::decode(header).map_err(WorkError::HeaderRead)?;
    let Header { greeting: master, start_len, init_len } = header;
    let own = greeting();
    if master != own {
        let failure =
            StartFailure::OtherBuild { worker: own.fingerprint, master: master.fingerprint };
        send_event(control, &ControlEvent::Failed(failure))?;
        return Ok(None);
    }
    let start = Start::decode(&fill(start_len)?)?;
    let init = fill(init_len)?;
    Ok(Some(StartMessage { start, init, descriptors }))
}

fn send_event(control: &ControlEnd, event: &ControlEvent) -> Result<(), WorkError> {
    control.send_event(event).map_err(WorkError::Send)
}

/// Makes this process end with its master, for the time before the control thread runs.
fn end_with_master(control: &'static ControlEnd, start: &Start) -> Result<(), WorkError> {
    // If it fails, the control thread still notices the end of the master.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|it| Pid::as_raw(Some(it)));
    if parent != i32::try_from(start.master).ok() && !control.link().is_stream() {
        // The parent is a launcher's process, so the signal comes with the end of that process.
        control.watch_master().map_err(WorkError::ControlThread)?;
    }
    // A master that ended before the signal was set has closed its end.
    if control.link().is_closed() { Err(WorkError::NoMaster) } else { Ok(()) }
}

/// Sets the name of this process to the file name of its program, instead of `exe`.
fn name_process(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or_default().as_encoded_bytes();
    // The name of a process is that of its main thread. Other threads, such as those of tests, set it
    // by the file, which takes longer.
    let _ = match CString::new(name) {
        Ok(name) if gettid() == getpid() => set_name(&name).map_err(io::Error::from),
        _ => std::fs::write("/proc/self/comm", name),
    };
}
