//! The snapshot process: a copy of the master that was forked early, and that forks workers.
//!
//! It has a single thread, and allocates nothing that grows with the number of workers. No code of
//! the user runs in it, except for the function of its snapshot.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rpc_parallel_os::{
    ForkError, Forked, FreshChild, JoinedThreadError, NewProcess, Parent, Released, check_forkable,
    exit_immediately, fork_sibling, run_on_joined_thread, set_variable,
};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, fchdir, getpid, getppid, kill_process,
    set_parent_process_death_signal, setsid, waitid,
};
use rustix::thread::gettid;

use super::boot_token::BOOT_TOKEN_VARIABLE;
use super::control_end::EXIT_FAILED;
use super::control_event::ControlEvent;
use super::exit::{ExitHandlers, set_forked};
use super::flavor::RuntimeFlavor;
use super::inheritance::{Inheritance, PREFIX_LEN};
use super::initial_signals::initial_signals;
use super::null::null_input;
use super::role::Role;
use super::snapshot_messages::{Reply, Request, WorkerDescriptors, receive_request, send_reply};
use super::start_failure::StartFailure;
use super::work::work;
use crate::connection::{AnyError, catch, diagnose, install_hook};
use crate::transport::{receive, send};
use crate::wire::shorten;
use crate::worker::{BoxError, count_private_pages, greeting, resident_and_anonymous_memory};

/// The name of the process. The kernel keeps 15 bytes.
const NAME: &str = "rpc-snapshot";

/// The exit code of a process in which a bug of this crate has panicked, as that of Rust programs.
const EXIT_PANICKED: i32 = 101;

/// The function of a snapshot, which prepares the memory that its workers share.
pub(super) type Warm<'a> = Box<dyn FnOnce() -> Result<(), BoxError> + Send + 'a>;

/// Ends the process if a panic unwinds to here: below it are the stack frames of the master's
/// `main`, which must not continue.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit_immediately(EXIT_PANICKED);
    }
}

/// Runs this process, which was just forked from the master, as its snapshot process.
pub(super) fn run_snapshot(
    child: &FreshChild,
    socket: OwnedFd,
    master: Pid,
    warm: Option<Warm<'_>>,
) -> ! {
    let _guard = ExitOnUnwind;
    let unprepared = |error: io::Error| Reply::Unprepared { why: AnyError::of(&error).to_string() };
    let is_warm = warm.is_some();
    let ready = prepare(child, &socket, master).map_err(unprepared).and_then(|()| {
        run_warm(warm)?;
        // Computed once for all workers.
        greeting();
        probe(is_warm).map_err(unprepared)
    });
    let ready = ready.unwrap_or_else(|reply| end_with(&socket, &reply));
    if send_reply(&socket, &ready).is_err() {
        exit_immediately(0);
    }
    // If the environment is too long to be sent, it is that of no worker.
    let inherited =
        Inheritance::of_this_process(false, std::iter::empty()).encode().unwrap_or_default();
    serve(socket, &inherited)
}

/// Reports why there is no snapshot, and exits.
fn end_with(socket: &OwnedFd, reply: &Reply) -> ! {
    // It fails only if the master has ended.
    let _ = send_reply(socket, reply);
    exit_immediately(0)
}

/// Gives up what belongs to the master.
fn prepare(child: &FreshChild, socket: &OwnedFd, master: Pid) -> io::Result<()> {
    // The signal comes when the thread ends that has forked this process. A thread that is not the
    // main thread may end before the master. Then the end of the socket ends this process.
    if gettid() == getpid() {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(master) {
            exit_immediately(0);
        }
    }
    child.release_descriptors(Released::CloseOnExec, &[socket.as_fd()])?;
    // No worker belongs to this session, because each makes its own.
    setsid()?;
    rustix::stdio::dup2_stdin(null_input()?)?;
    // Without it, the process has the name of the program.
    let _ = std::fs::write("/proc/self/comm", NAME);
    Role::restore_affinity();
    Ok(())
}

/// Forks a child of the master, which exits at once.
///
/// After code of the user has run, the child first makes a tokio runtime, as a worker does. That fails
/// if a runtime of the master has existed before the snapshot, and has left its signal socket behind.
fn probe(is_warm: bool) -> io::Result<Reply> {
    match fork_sibling().map_err(io::Error::other)? {
        Forked::Child(_) => {
            let works = !is_warm || RuntimeFlavor::CurrentThread.build().is_ok();
            exit_immediately(if works { 0 } else { EXIT_FAILED })
        }
        Forked::Caller(NewProcess { pid, parent: Parent::ParentOfCaller }) => {
            let (_, heap) = resident_and_anonymous_memory();
            Ok(Reply::Ready { probe: pid.as_raw_pid().unsigned_abs(), heap, no_sibling: None })
        }
        Forked::Caller(NewProcess { pid, parent }) => {
            reap(pid);
            Ok(Reply::Ready { probe: 0, heap: 0, no_sibling: Some(reason(&parent)) })
        }
    }
}

/// Returns why a process is a child of this one.
fn reason(parent: &Parent) -> String {
    match parent {
        Parent::Caller(reason) => AnyError::of(reason).to_string(),
        _ => "the kernel has made another process its parent".to_owned(),
    }
}

/// Kills a child of this process and reaps it.
fn reap(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

/// Runs the function of the snapshot on a thread that ends before this process is forked. So the
/// workers do not share what the thread keeps for itself, such as the keys of its hash tables.
fn run_warm(warm: Option<Warm<'_>>) -> Result<(), Reply> {
    let Some(warm) = warm else { return Ok(()) };
    // It records the location of a panic, and stays for the workers, which install it otherwise.
    install_hook();
    let text = |error: BoxError| shorten(AnyError::from(error).to_string());
    let ran = run_on_joined_thread("snapshot", || catch(|| warm().map_err(text)));
    initial_signals().restore();
    match ran {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(why))) => return Err(Reply::Failed { why }),
        Ok(Err(panic)) => return Err(Reply::Panicked { panic: panic.shortened() }),
        Err(JoinedThreadError::Threads(error)) => {
            return Err(Reply::Unforkable { why: error.to_string() });
        }
        Err(error) => return Err(Reply::Unprepared { why: AnyError::of(&error).to_string() }),
    }
    check_forkable().map_err(|error| Reply::Unforkable { why: AnyError::of(&error).to_string() })
}

/// Forks a worker for each request, until the master closes the socket. `inherited` is the message of
/// what each worker inherits by the fork.
fn serve(socket: OwnedFd, inherited: &[u8]) -> ! {
    loop {
        match receive_request(&socket) {
            Ok(Some((request, descriptors))) => {
                let reply = match fork_sibling() {
                    Ok(Forked::Child(child)) => {
                        become_worker(&child, socket, &request, descriptors, inherited)
                    }
                    Ok(Forked::Caller(new)) => forked(request.serial, &new),
                    Err(error) => not_forked(request.serial, &error),
                };
                // It fails only if the master has ended, which the next request notices.
                let _ = send_reply(&socket, &reply);
            }
            Ok(None) => exit_immediately(0),
            Err(error) => {
                diagnose(format_args!("failed to receive a request for a worker: {error}"));
                exit_immediately(EXIT_FAILED);
            }
        }
    }
}

fn forked(serial: u64, new: &NewProcess) -> Reply {
    match &new.parent {
        Parent::ParentOfCaller => {
            Reply::Forked { serial, pid: new.pid.as_raw_pid().unsigned_abs() }
        }
        // It waits for its master, and has run no code of the user.
        parent => {
            reap(new.pid);
            Reply::NotForked { serial, why: reason(parent) }
        }
    }
}

fn not_forked(serial: u64, error: &ForkError) -> Reply {
    Reply::NotForked { serial, why: AnyError::of(error).to_string() }
}

/// Runs this process, which was just forked from the snapshot process, as a worker.
fn become_worker(
    child: &FreshChild,
    socket: OwnedFd,
    request: &Request,
    descriptors: WorkerDescriptors,
    inherited: &[u8],
) -> ! {
    let _guard = ExitOnUnwind;
    // The snapshot process may be killed before it has sent this. Without it, the master would not
    // reap this process.
    let (serial, pid) = (request.serial, std::process::id());
    let _ = send_reply(&socket, &Reply::Forked { serial, pid });
    drop(socket);
    let own = child.skip_inherited_exit_handlers();
    count_private_pages();
    set_forked(if own { ExitHandlers::Own } else { ExitHandlers::None });
    match inherit(descriptors, &request.boot_token, inherited) {
        Ok(true) => work(),
        // The master has ended, or has given up the start.
        Ok(false) => {}
        Err(failure) => {
            let event = ControlEvent::Failed(failure).encode();
            // It fails only if the master has ended.
            let _ = send(rustix::stdio::stdin(), &event, &[]);
        }
    }
    exit_immediately(EXIT_FAILED)
}

/// Takes over what an executed worker would have inherited, with the control socket as stdin.
/// Returns `false` if the master sends nothing.
fn inherit(
    descriptors: WorkerDescriptors,
    boot_token: &str,
    inherited: &[u8],
) -> Result<bool, StartFailure> {
    let WorkerDescriptors { control, stdout, stderr, current_dir } = descriptors;
    let failure = |tried: &str| {
        let tried = tried.to_owned();
        move |errno: rustix::io::Errno| StartFailure::SetUp { tried, why: errno.to_string() }
    };
    rustix::stdio::dup2_stdin(&control).map_err(failure("set its stdin"))?;
    rustix::stdio::dup2_stdout(&stdout).map_err(failure("set its stdout"))?;
    rustix::stdio::dup2_stderr(&stderr).map_err(failure("set its stderr"))?;
    fchdir(&current_dir).map_err(failure("enter the directory of its master"))?;
    drop((stdout, stderr, current_dir));

    let invalid = |error: &(dyn std::error::Error + 'static)| StartFailure::SetUp {
        tried: "receive the environment of its master".to_owned(),
        why: error.to_string(),
    };
    let fill = |bytes: &mut [u8]| -> Result<bool, StartFailure> {
        let received = receive(&control, bytes, &mut Vec::new()).map_err(|it| invalid(&it))?;
        Ok(received == bytes.len())
    };
    let mut prefix = [0; PREFIX_LEN];
    if !fill(&mut prefix)? {
        return Ok(false);
    }
    let mut message = vec![0; Inheritance::decode_len(prefix).map_err(|it| invalid(&it))?];
    if !fill(&mut message)? {
        return Ok(false);
    }
    if inherited.get(PREFIX_LEN..) != Some(&*message) {
        Inheritance::decode(&message).map_err(|it| invalid(&it))?.apply()?;
    }
    let set = set_variable(BOOT_TOKEN_VARIABLE.as_ref(), boot_token.as_ref());
    set.map_err(|error| StartFailure::SetUp {
        tried: "set its boot token".to_owned(),
        why: AnyError::of(&error).to_string(),
    })?;
    Ok(true)
}
