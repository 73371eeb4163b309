//! The main function of a worker process: the start handshake, the worker's runtime, and the end of
//! the process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::process;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::boot_token::SocketId;
use super::control_event::ControlEvent;
use super::control_socket::{ControlSocket, EXIT_FAILED, GRACE_PERIOD, end_by_panic};
use super::flavor::block_on;
use super::host::Host;
#[cfg(feature = "pool")]
use super::job_socket::JobSocket;
use super::role::Role;
use super::serve::{Ended, ServeError, serve};
use super::start::{HEADER_LEN, Header, Start, StartError};
use super::start_failure::StartFailure;
use super::worker_index;
use crate::connection::{AnyError, diagnose, on_unhandled};
use crate::transport::receive;
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
    process::exit(code)
}

/// A process failed to become a worker, and could not report the failure to its master.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("failed to move the control socket away from stdin")]
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

fn run() -> Result<i32, WorkError> {
    let control = ControlSocket::init(SocketId::take_socket().map_err(WorkError::Socket)?);
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
    Role::Worker.assume(start.spawn_defaults.clone()).map_err(WorkError::Role)?;
    send_event(control, &ControlEvent::Hello { pid: process::id() })?;

    let runtime = start.flavor.build().map_err(WorkError::Runtime)?;
    let mut ended = Ok(Ended::Killed);
    let host = Host::Process(control);
    block_on(&runtime, pin!(async { ended = serve(start, init, &host).await }));
    // Blocking tasks that still run after the grace period end with the process.
    runtime.shutdown_timeout(GRACE_PERIOD);
    Ok(match ended? {
        Ended::Exited(code) => code,
        Ended::Killed => EXIT_FAILED,
    })
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
fn receive_start(control: &ControlSocket) -> Result<Option<StartMessage>, WorkError> {
    let mut descriptors = Vec::new();
    let mut fill = |len| {
        let mut bytes = vec![0; len];
        match receive(control.socket(), &mut bytes, &mut descriptors) {
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

fn send_event(control: &ControlSocket, event: &ControlEvent) -> Result<(), WorkError> {
    control.send_event(event).map_err(WorkError::Send)
}

/// Makes this process end with its master, for the time before the control thread runs.
fn end_with_master(control: &'static ControlSocket, start: &Start) -> Result<(), WorkError> {
    // If it fails, the control thread still notices the end of the master.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|it| Pid::as_raw(Some(it)));
    if parent != i32::try_from(start.master).ok() {
        // The parent is a launcher's process, so the signal comes with the end of that process.
        control.watch_master().map_err(WorkError::ControlThread)?;
    }
    // A master that ended before the signal was set has closed its end of the socket.
    let mut control = [PollFd::new(control.socket(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut control, Some(&now)) {
        Ok(ready) if ready > 0 => Err(WorkError::NoMaster),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sets the name of this process to the file name of its program, instead of `exe`.
fn name_process(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or_default();
    // The file sets the name of the main thread, also if this is another thread.
    let _ = std::fs::write("/proc/self/comm", name.as_encoded_bytes());
}
