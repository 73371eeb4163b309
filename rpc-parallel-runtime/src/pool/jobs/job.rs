//! The handle of a job: plain data with which any process of the program can join it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::end::JobEnd;
use super::job_id::JobId;
use super::join_error::JoinError;
use super::protocol::{Detach, Join, KeeperClient, TryJoin};
use super::table::Gone;
use super::top::keeper;
use crate::connection::{FunctionError, Never};
use crate::wire::{FunctionId, Message, codec};
use crate::worker::{WorkerClient, call, find_process};

/// A job: a call of a function that runs in a process of its own, independent of the process that
/// has started it. `score::start(..)` starts one.
///
/// A job is plain data. It can be printed, compared, and sent to other processes of the program: it
/// implements serde's traits. Any process that has it can [`join`](Self::join) it, once.
///
/// Jobs belong to the process at the top of the tree, also if a worker has started them: that process
/// starts their processes as its own children, and keeps their results. So a job outlives the worker
/// that has started it, and ends with the program. Dropping a `Job` has no effect on the job. A job
/// whose result is not wanted should be [detached](Self::detach), because results that are not joined
/// are kept, up to [`kept_job_results`](crate::Settings::kept_job_results).
///
/// ```
/// use rpc_parallel::prelude::*;
/// use rpc_parallel::process::Job;
///
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// /// Runs in another process, which joins a job that it has not started.
/// #[rpc_parallel::process]
/// async fn join(job: Job<u64>) -> Result<u64, AnyError> {
///     Ok(job.join().await?)
/// }
///
/// # async fn example() -> Result<(), AnyError> {
/// let job = square::start(3).await?;
/// println!("{job}"); // job 1 (`app::square`)
/// assert_eq!(join::run(job).await?, 9);
/// # Ok(())
/// # }
/// ```
pub struct Job<T, E = Never> {
    id: JobId,
    function: FunctionId,
    of: PhantomData<fn() -> (T, E)>,
}

impl<T, E> Job<T, E> {
    pub(super) fn new(id: JobId, function: FunctionId) -> Self {
        Self { id, function, of: PhantomData }
    }

    /// Returns the id of the job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Makes the job one whose result is not wanted. The job continues. Its result, and the reason
    /// why it has none, are dropped.
    ///
    /// # Errors
    ///
    /// The result was joined or dropped before, or the top process cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// After the first poll, the job may have been detached or not.
    pub async fn detach(&self) -> Result<(), JoinError<E>> {
        let keeper = self.keeper().await?;
        answer(call::<KeeperClient, Detach>(&keeper, (&self.id.number,)).await)
    }

    /// Waits for the end of the job, and takes its encoded result.
    pub(in crate::pool) async fn end(&self) -> Result<JobEnd, JoinError<E>> {
        let keeper = self.keeper().await?;
        answer(call::<KeeperClient, Join>(&keeper, (&self.id.number,)).await)
    }

    async fn keeper(&self) -> Result<KeeperClient, JoinError<E>> {
        let keeper = keeper().await.map_err(|why| JoinError::Unreachable { why })?;
        match keeper.worker_id() == self.id.keeper {
            true => Ok(keeper),
            false => Err(JoinError::UnknownJob),
        }
    }
}

impl<T: Message, E: Message> Job<T, E> {
    /// Waits for the end of the job, and returns its result.
    ///
    /// Exactly one join gets the result. While one waits, and after it has the result, every other
    /// join of any process fails with [`AlreadyJoined`](JoinError::AlreadyJoined) at once.
    ///
    /// # Errors
    ///
    /// - The function returned an error or panicked, or its process exited or was killed.
    /// - The result was joined, detached or dropped.
    /// - The job belongs to another run of the program, or the top process cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the result to the next join, unless it is already on its way to
    /// this process. So does the end of the process that joins.
    pub async fn join(&self) -> Result<T, JoinError<E>> {
        Self::result(self.end().await?)
    }

    /// Returns the result of the job if it has ended, or `None` if it runs. If there is a result,
    /// this is a [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the result may be lost.
    pub async fn try_join(&self) -> Result<Option<T>, JoinError<E>> {
        let keeper = self.keeper().await?;
        let end = answer(call::<KeeperClient, TryJoin>(&keeper, (&self.id.number,)).await)?;
        end.map(Self::result).transpose()
    }

    /// Decodes the result, which runs user code.
    pub(in crate::pool) fn result(end: JobEnd) -> Result<T, JoinError<E>> {
        JoinError::result(end, codec(), codec())
    }
}

/// Converts the answer of the keeper.
fn answer<T, E>(answer: Result<T, FunctionError<Gone>>) -> Result<T, JoinError<E>> {
    answer.map_err(|error| match error {
        FunctionError::Function(gone) => gone.into(),
        FunctionError::Call(error) => JoinError::Unreachable { why: error.kind().to_string() },
    })
}

impl<T, E> Clone for Job<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for Job<T, E> {}

impl<T, E> PartialEq for Job<T, E> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<T, E> Eq for Job<T, E> {}

impl<T, E> Hash for Job<T, E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<T, E> fmt::Debug for Job<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T, E> fmt::Display for Job<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match find_process(self.function) {
            Some(function) => write!(f, "{} (`{}`)", self.id, function.info().path()),
            None => write!(f, "{} (function {})", self.id, self.function),
        }
    }
}

impl<T, E> Serialize for Job<T, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.id, self.function.get()).serialize(serializer)
    }
}

impl<'de, T, E> Deserialize<'de> for Job<T, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, function) = Deserialize::deserialize(deserializer)?;
        Ok(Self::new(id, FunctionId(function)))
    }
}
