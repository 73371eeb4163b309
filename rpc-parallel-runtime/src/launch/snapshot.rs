//! The launcher that forks workers from a snapshot of the program.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rpc_parallel_os::check_forkable;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use tokio::runtime::Handle;

use super::boot_token::StartedAs;
use super::inheritance::Inheritance;
use super::launch_request::{LaunchRequest, Launched, Streams, control_socket};
use super::launcher::{Exec, Launcher, Launching};
use super::null::null_output;
use super::role::Role;
use super::snapshot_error::SnapshotError;
use super::snapshot_link::{ForkRequest, SnapshotLink, Taken};
use super::snapshot_messages::WorkerDescriptors;
use super::snapshot_process::Warm;
use super::starting_error::LaunchError;
use crate::worker::BoxError;

/// A launcher that forks workers from a snapshot of this program, instead of executing it again.
///
/// A snapshot is a process that was forked from the master at an early point, and that waits. Each
/// worker is forked from it, which takes about half of the time of a start by `exec`, and shares the
/// memory that the program had at that point until the worker writes to it. The memory may hold
/// large data, which is built once for all workers.
///
/// Workers behave as those that are executed: they are children of the master, with its environment,
/// directory, umask and resource limits at the time of their start, and with all options of their
/// [`Spawner`](crate::Spawner).
///
/// # Taking a snapshot
///
/// A process can be forked only while it has one thread and no asynchronous runtime. There are two
/// ways:
///
/// - `#[rpc_parallel::entry(snapshot)]` takes a snapshot before `main` begins, and
///   [`of_entry`](Self::of_entry) returns it. With `#[rpc_parallel::entry(snapshot = warm)]`, the
///   function `warm` prepares data first.
/// - [`warm`](Self::warm) takes one in a `main` that is not async, before any thread is started.
///
/// ```
/// use std::sync::OnceLock;
///
/// use rpc_parallel::launch::{SealedSlice, Snapshot};
/// use rpc_parallel::prelude::*;
///
/// static SQUARES: OnceLock<SealedSlice<u64>> = OnceLock::new();
///
/// #[rpc_parallel::worker]
/// trait Lookup {
///     async fn square(&self, number: usize) -> Option<u64>;
/// }
///
/// #[derive(Default, WorkerState)]
/// struct Squares;
///
/// #[rpc_parallel::worker]
/// impl Lookup for Squares {
///     async fn square(&self, number: usize) -> Option<u64> {
///         SQUARES.get()?.get(number).copied()
///     }
/// }
///
/// fn build() -> Result<(), BoxError> {
///     let squares: Vec<u64> = (0..1000).map(|it| it * it).collect();
///     SQUARES.set(SealedSlice::copy_of(&squares)?).map_err(|_| "it was built before")?;
///     Ok(())
/// }
///
/// #[rpc_parallel::entry(snapshot = build)]
/// async fn main() -> Result<(), BoxError> {
///     let snapshot = Snapshot::of_entry()?;
///     let squares = Squares::spawner().launcher(snapshot).spawn(()).await?;
///     assert_eq!(squares.square(12).await?, Some(144));
///     Ok(())
/// }
/// ```
///
/// # Differences
///
/// - Values that were computed before the snapshot keep the state of that time in all workers. This
///   includes values that were read from the environment, a panic hook and a `tracing` subscriber.
/// - The command line, which `ps` and `std::env::args` show, is that of the master. Arguments of
///   [`MasterBuilder::worker_args`](crate::MasterBuilder::worker_args) are ignored.
/// - The nice value, capabilities, cgroup and namespaces are those of the time of the snapshot,
///   unless the spawner sets them. A worker does not start if the user or the group of the master has
///   changed since.
/// - Signal handlers that were installed before the snapshot, also by its function, do not exist in
///   workers.
/// - Keys of hash tables that the main thread has drawn before the snapshot are the same in all
///   workers. `#[entry(snapshot)]` draws none, and [`warm`](Self::warm) runs its function on another
///   thread.
/// - The layout of the address space is the same in all workers.
/// - At its end, a worker does not run the `atexit` handlers that existed at the time of the
///   snapshot, such as those that write coverage profiles, nor the destructors of thread-local values
///   of its main thread. With another C library than glibc, it runs none at all.
/// - [`foreground`](crate::Spawner::foreground) and
///   [`worker_program`](crate::MasterBuilder::worker_program) make the start fail, because both
///   require an `exec`.
/// - The time of [`connect_timeout`](crate::Spawner::connect_timeout) includes that of the fork,
///   which takes 9 µs for each MiB of the [heap](Self::heap_size). A
///   [`SealedSlice`](crate::SealedSlice) adds nothing.
///
/// # End
///
/// The process of the snapshot ends when the last clone of this value is dropped, and with the
/// program. That of `#[entry]` ends with the program. If it is killed, running workers continue, and
/// starts that have begun fail with an error that contains its exit reason. Later starts fail with
/// the same error if the snapshot has a function, and execute the program otherwise.
///
/// A snapshot belongs to the process that has taken it. Its workers cannot start workers from it, but
/// can execute them as usual.
///
/// # Process functions
///
/// Functions with `#[process]`, their maps and their jobs run in processes of the snapshot that
/// `#[entry]` has taken, unless their spawner sets another launcher, such as [`Exec`]. If it could not
/// be taken, they fail with the same error as [`of_entry`](Self::of_entry).
///
/// # Old kernels and sandboxes
///
/// Where a process cannot make siblings (`CLONE_PARENT`), a snapshot without a function executes its
/// workers instead. With a function, taking it fails with
/// [`SnapshotError::NoSibling`], because executed workers lack its data.
#[derive(Clone)]
#[must_use = "a launcher does nothing until it is passed to a spawner"]
pub struct Snapshot(Arc<Source>);

/// How the workers of a snapshot are started.
enum Source {
    Forked {
        link: SnapshotLink,
        /// Whether the snapshot has a function, whose data the workers may need.
        has_data: bool,
        /// The anonymous memory of the snapshot process, in bytes.
        heap: u64,
    },
    /// By executing the program, because a process cannot make siblings here.
    Executed,
}

impl Snapshot {
    /// Runs a function in a process that is forked from this one, and takes a snapshot of that
    /// process.
    ///
    /// The function prepares data in static variables, which the workers of the snapshot share. This
    /// process is not changed. The function runs on a thread that ends before the first worker is
    /// forked. This call returns when it has returned.
    ///
    /// ```no_run
    /// use std::sync::OnceLock;
    ///
    /// use rpc_parallel::launch::Snapshot;
    ///
    /// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    ///
    /// #[rpc_parallel::entry]
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let snapshot = Snapshot::warm(|| {
    ///         let text = std::fs::read_to_string("/usr/share/dict/words")?;
    ///         WORDS.set(text.lines().map(str::to_owned).collect()).map_err(|_| "loaded twice")?;
    ///         Ok(())
    ///     })?;
    ///     // .. make a tokio runtime, and start workers with `.launcher(snapshot)`
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// - This process has other threads, or has or had a tokio runtime. Tests have threads: libtest
    ///   runs them on threads of its own.
    /// - The function has failed or panicked, or has left threads or a runtime behind.
    /// - The snapshot process has ended before, or the kernel refuses to fork.
    pub fn warm(
        function: impl FnOnce() -> Result<(), BoxError> + Send,
    ) -> Result<Self, SnapshotError> {
        Self::take(Some(Box::new(function)))
    }

    /// Returns the size of the heap and of other anonymous memory that the snapshot holds, in bytes.
    ///
    /// Each start of a worker copies the page tables of this memory, which takes 9 µs for each MiB.
    /// A [`SealedSlice`](crate::SealedSlice) is not part of it, and adds nothing to a start.
    ///
    /// Returns 0 if the workers of this snapshot are executed.
    #[must_use]
    pub fn heap_size(&self) -> u64 {
        match &*self.0 {
            Source::Forked { heap, .. } => *heap,
            Source::Executed => 0,
        }
    }

    pub(super) fn take(warm: Option<Warm<'_>>) -> Result<Self, SnapshotError> {
        check_master()?;
        check_forkable()?;
        if Handle::try_current().is_ok() {
            return Err(SnapshotError::Runtime);
        }
        let has_data = warm.is_some();
        match SnapshotLink::take(warm)? {
            Taken::Forks(link, heap) => Ok(Self(Arc::new(Source::Forked { link, has_data, heap }))),
            Taken::NoSibling(why) if has_data => Err(SnapshotError::NoSibling { why }),
            Taken::NoSibling(_) => Ok(Self(Arc::new(Source::Executed))),
        }
    }

    /// Returns whether this process was forked from the one that has taken the snapshot.
    pub(super) fn is_of_other_process(&self) -> bool {
        matches!(&*self.0, Source::Forked { link, .. } if link.is_of_other_process())
    }

    /// Ends the snapshot process.
    pub(super) fn end(&self) {
        if let Source::Forked { link, .. } = &*self.0 {
            link.end();
        }
    }

    async fn start(&self, worker: LaunchRequest) -> io::Result<Launched> {
        let link = match &*self.0 {
            Source::Executed => return Exec.launch(worker).await,
            Source::Forked { link, has_data: false, .. } if link.has_ended() => {
                return Exec.launch(worker).await;
            }
            Source::Forked { link, .. } => link,
        };
        if link.is_of_other_process() {
            return Err(io::Error::other(
                "the snapshot belongs to the master of this process; use the launcher `Exec`",
            ));
        }
        check_needs_no_exec(&worker)?;
        let (control, worker_end, token) = control_socket().map_err(LaunchError::io)?;
        let inheritance = Inheritance::of_this_process(worker.is_env_cleared(), worker.envs());
        let inheritance = inheritance.encode().map_err(io::Error::other)?;

        let LaunchRequest { streams, launch, .. } = worker;
        let descriptors = descriptors(worker_end.into(), streams)?;
        link.request(ForkRequest { descriptors, boot_token: token.to_string(), launch })?;
        control.send_before_start(&inheritance).await?;
        Ok(Launched { control: Arc::new(control) })
    }
}

impl Launcher for Snapshot {
    fn launch(&self, worker: LaunchRequest) -> Launching<'_> {
        Box::pin(self.start(worker))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut snapshot = f.debug_struct("Snapshot");
        match &*self.0 {
            Source::Forked { link, heap, .. } => {
                snapshot.field("pid", &link.pid()).field("heap_size", heap).finish()
            }
            Source::Executed => snapshot.finish_non_exhaustive(),
        }
    }
}

/// Checks that this process is no worker, and was not started as one.
pub(super) fn check_master() -> Result<(), SnapshotError> {
    let is_master = match Role::current() {
        Some(role) => role == Role::Master,
        None => matches!(StartedAs::here(), StartedAs::Program),
    };
    if is_master { Ok(()) } else { Err(SnapshotError::NotMaster) }
}

fn check_needs_no_exec(worker: &LaunchRequest) -> io::Result<()> {
    let setting = if worker.foreground {
        "`Spawner::foreground`"
    } else if worker.command_line.has_program() {
        "`MasterBuilder::worker_program`"
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!(
        "a worker of a snapshot is not executed, which {setting} requires; use the launcher \
         `Exec`"
    )))
}

/// Returns the descriptors of a worker, which an executed worker would inherit.
fn descriptors(control: OwnedFd, streams: Streams) -> io::Result<WorkerDescriptors> {
    let Streams { inherits_stdout, stderr, .. } = streams;
    let stdout = match inherits_stdout {
        true => fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
        false => null_output()?,
    };
    let stderr = match stderr {
        Some(pipe) => pipe.into(),
        None => fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?,
    };
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let current_dir = open(".", path, Mode::empty())?;
    Ok(WorkerDescriptors { control, stdout, stderr, current_dir })
}
