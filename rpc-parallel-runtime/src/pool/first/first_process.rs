//! The builder of a program's run, and its future.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::sync::watch;

use super::error::FirstProcessError;
use super::stray_jobs::StrayJobs;
use super::supervise::{Options, supervise};
use crate::connection::Never;
use crate::pool::background::runtime;
use crate::pool::jobs::{Job, StartJob, start};
use crate::pool::process::ProcessFunction;
use crate::pool::race::{Either, race};
use crate::wire::Message;
use crate::worker::{Arguments, Declares, FunctionErrorOf, ProcessClient};

/// Runs a program as a process function: the *first process*. Returns its result when it and all jobs
/// have ended.
///
/// The calling process only supervises: it starts the processes of [jobs](crate::Job) and keeps their
/// results. So a crash of the program, or of a library that it uses, ends neither the calling process
/// nor the jobs.
///
/// `input` holds the arguments of the function: a single one as it is, several as a tuple, `()` for
/// none.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::prelude::*;
/// use rpc_parallel::process::StrayJobs;
///
/// #[rpc_parallel::process]
/// async fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// /// The program.
/// #[rpc_parallel::process]
/// async fn sum_of_squares(numbers: Vec<u64>) -> Result<u64, AnyError> {
///     let mut jobs = Vec::new();
///     for number in numbers {
///         jobs.push(square::start(number).await?);
///     }
///     let mut sum = 0;
///     for job in jobs {
///         sum += job.join().await?;
///     }
///     Ok(sum)
/// }
///
/// #[rpc_parallel::entry]
/// fn main() -> anyhow::Result<()> {
///     let sum = rpc_parallel::run(sum_of_squares::FUNCTION, vec![1, 2, 3])
///         .stray_jobs(StrayJobs::Kill { after: Duration::from_secs(10) })
///         .wait()?;
///     assert_eq!(sum, 14);
///     Ok(())
/// }
/// ```
///
/// # Signals
///
/// A signal that ends the calling process ends all processes of the program, whether it is `SIGTERM`
/// or `SIGKILL`: they end when they lose the connection to it, or the kernel ends them. Then the pid
/// file and the run directory remain. The next run replaces and removes them. To end a program in
/// order, use [`stop_when`](FirstProcess::stop_when).
pub fn run<F>(
    function: ProcessFunction<F>,
    input: <<ProcessClient as Declares<F>>::Codecs as Arguments>::Input,
) -> FirstProcess<<ProcessClient as Declares<F>>::Output, FunctionErrorOf<ProcessClient, F>>
where
    ProcessClient: Declares<F>,
{
    let ProcessFunction { .. } = function;
    let start = start::<F>(<ProcessClient as Declares<F>>::Codecs::borrow(&input));
    FirstProcess { start, options: Options::default(), stop: Box::pin(pending()) }
}

/// The run of a program in a first process. [`run`](crate::run) makes it.
///
/// Nothing happens before it is awaited, or [`wait`](crate::Wait::wait) is called. The program runs on
/// a runtime of its own, so a `main` that is not `async` can wait for it.
///
/// # Errors
///
/// See [`FirstProcessError`]. Jobs that still run are treated as
/// [`stray_jobs`](Self::stray_jobs) says, also after an error.
///
/// # Cancel safety
///
/// Dropping the future stops the program as [`stop_when`](Self::stop_when) does, without waiting for
/// the end of the jobs.
#[must_use = "the program runs only if this is awaited"]
pub struct FirstProcess<T, E = Never> {
    start: StartJob<T, E>,
    options: Options,
    stop: Stop,
}

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T, E> FirstProcess<T, E> {
    /// Sets what happens to jobs that still run when the first process has ended. Default:
    /// [`StrayJobs::Wait`].
    pub fn stray_jobs(mut self, stray_jobs: StrayJobs) -> Self {
        self.options.stray_jobs = stray_jobs;
        self
    }

    /// Writes the process id of the calling process to this file, which is removed when the program
    /// has ended. Default: no pid file.
    ///
    /// The file appears together with its content. This process holds a lock on it (`flock`), by which
    /// other runs know that it is in use. A pid file without a lock is stale and is replaced, even if
    /// another process has its number now.
    ///
    /// # Errors
    ///
    /// - [`PidFileInUse`](FirstProcessError::PidFileInUse): a process that runs holds the file.
    /// - [`PidFile`](FirstProcessError::PidFile): a file without a process id, a file of another user,
    ///   a symbolic link or a directory is in its place, or the system refuses.
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.files.pid_file = Some(path.into());
        self
    }

    /// Creates a private directory in `parent` (mode 0700), which is removed with all that is in it
    /// when the program has ended. Default: no directory.
    ///
    /// [`run_directory`](crate::run_directory) returns its path in the processes of the program.
    ///
    /// Its name consists of the name of the executable and a random number. Directories in `parent`
    /// that killed runs of a program with this name have left behind are removed first. A directory of
    /// a run that has not ended is kept: its process holds a lock on it (`flock`). So are directories
    /// of other users, and symbolic links are not followed.
    ///
    /// # Errors
    ///
    /// [`RunDirectory`](FirstProcessError::RunDirectory): `parent` does not exist, all users may
    /// replace files in it (it is writable for all and has no sticky bit), or the system refuses.
    pub fn run_directory(mut self, parent: impl Into<PathBuf>) -> Self {
        self.options.files.run_directory_in = Some(parent.into());
        self
    }

    /// Stops the program when this future resolves: the first process and all jobs are
    /// [cancelled](StrayJobs::Cancel), and the run fails with
    /// [`Stopped`](FirstProcessError::Stopped) when they have exited. If the first process has ended
    /// already, the jobs are cancelled, and the run returns its result. Default: never.
    ///
    /// ```
    /// use rpc_parallel::prelude::*;
    ///
    /// #[rpc_parallel::process]
    /// async fn program() -> Result<(), AnyError> {
    ///     Ok(())
    /// }
    ///
    /// # async fn example() -> Result<(), AnyError> {
    /// rpc_parallel::run(program::FUNCTION, ())
    ///     .stop_when(async {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop_when(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(stop);
        self
    }
}

impl<T: Message, E: Message> FirstProcess<T, E> {
    async fn run(self) -> Result<T, FirstProcessError<E>> {
        let runtime = runtime().map_err(FirstProcessError::Runtime)?;
        let (sender, stopped) = watch::channel(false);
        // Owner: the sender. If it is dropped, the program is stopped, and the task ends with it.
        let mut run = runtime.spawn(supervise(self.start, self.options, stopped));
        let ended = match race(&mut run, self.stop).await {
            Either::First(ended) => ended,
            Either::Second(()) => {
                sender.send_replace(true);
                run.await
            }
        };
        let end = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        Job::<T, E>::result(end).map_err(FirstProcessError::Failed)
    }
}

impl<T: Message, E: Message> IntoFuture for FirstProcess<T, E> {
    type Output = Result<T, FirstProcessError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T, E> fmt::Debug for FirstProcess<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstProcess")
            .field("stray_jobs", &self.options.stray_jobs)
            .finish_non_exhaustive()
    }
}
