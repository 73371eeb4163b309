//! The handle of a pool, with the type of the states of its workers.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::core::{PoolCore, Taken};
use super::ending::{Ending, end_pool};
use super::error::PoolError;
use super::lease::Lease;
use super::lookup::Target;
use super::set_up::SetUpFuture;
use super::set_up_calls::{call_error, set_up};
use super::size::check;
use super::slot_task::add_workers;
use super::template::Template;
use crate::connection::{Call, CallError, CallFailure, Client, SharedCall};
use crate::worker::{
    Arguments, DeclaredFunction, Declares, Function, OneWorkerTraitPerType, Served, WorkerClient,
    call_encoded, encode_call,
};

/// Several workers of one type, which are replaced when they fail.
///
/// [`SpawnPool::pool`](super::SpawnPool::pool) starts one. Clones are handles of the same pool. The
/// workers shut down when the last handle is dropped; a worker that a client or a call still uses
/// shuts down after that.
///
/// A worker that fails is replaced by a new one with the same index, see
/// [`PoolBuilder::replace_limit`](super::PoolBuilder::replace_limit). A client of the failed worker
/// is not connected to the replacement: its calls fail with
/// [`WorkerDied`](crate::CallErrorKind::WorkerDied). So keep handles of the pool, and not clients.
///
/// The pool belongs to the tokio runtime in which it was started. When that runtime ends, operations
/// fail with [`RuntimeEnded`](super::PoolErrorKind::RuntimeEnded).
///
/// ```
/// use rpc_parallel::pool::Pool;
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// trait Search {
///     /// Loads an index.
///     async fn load(&self, path: &str) -> Result<(), AnyError>;
///     async fn hits(&self, word: &str) -> u64;
/// }
/// # #[derive(Default, WorkerState)]
/// # struct Engine;
/// # #[rpc_parallel::worker]
/// # impl Search for Engine {
/// #     async fn load(&self, _path: &str) -> Result<(), AnyError> { Ok(()) }
/// #     async fn hits(&self, word: &str) -> u64 { word.len() as u64 }
/// # }
///
/// # async fn example() -> Result<(), AnyError> {
/// let pool: Pool<Engine> = Engine::pool().workers(4).spawn(()).await?;
/// pool.set_up(SearchClient::LOAD, &"words.idx".to_owned()).await?;
///
/// // A worker that no other task has got:
/// let engine = pool.get().await?;
/// println!("{} hits", engine.hits("seven").await?);
/// drop(engine);
///
/// for hits in pool.broadcast(SearchClient::HITS, &"seven".to_owned()).await? {
///     println!("{} hits", hits?);
/// }
/// pool.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Pool<S> {
    lease: Arc<Lease>,
    template: Template,
    of: PhantomData<fn() -> S>,
}

/// A worker of a pool that no other [`get`](Pool::get) returns until this is dropped. It is used like
/// its client.
///
/// It keeps the worker alive, also after the end of the pool. A clone of the client inside does so
/// too, but does not keep other callers from getting the worker.
pub struct PoolClient<S: OneWorkerTraitPerType> {
    client: S::Client,
    // Dropped after the client.
    taken: Taken,
}

impl<S> Pool<S> {
    /// Returns the number of workers, including those that are being replaced. 0 after the pool was
    /// shut down or killed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core().len()
    }

    /// Returns whether the pool was shut down or killed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the number of workers.
    ///
    /// New workers have the next indices, and are started like the last
    /// [group](super::PoolBuilder::on) of the builder. They answer the
    /// [set-up calls](Self::set_up) first. Workers are removed from the end: they get no new work,
    /// and end with the last of their clients and calls. This function does not wait for that.
    ///
    /// # Errors
    ///
    /// The number is 0 or more than 65536, or the pool has ended, or a new worker did not start.
    /// Then the pool has the workers that it had before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the new workers.
    pub async fn resize(&self, workers: usize) -> Result<(), PoolError> {
        check(workers)?;
        let core = self.core();
        let _resizing = core.begin_resize().await?;
        let present = core.len();
        if workers <= present {
            core.truncate(workers);
            return Ok(());
        }
        let new = (present..workers).map(|index| self.template.prepare(index));
        add_workers(core, present, new.collect::<Result<_, _>>()?).await
    }

    /// Shuts all workers down, and waits until their processes have exited.
    ///
    /// Each worker runs [`on_shutdown`](crate::WorkerState::on_shutdown) and has 10 s, as with
    /// [`Control::shutdown`](crate::Control::shutdown). This includes workers that have been
    /// replaced and still finish their calls. The calls of guards and clients fail. Later operations
    /// of all handles fail with [`ShutDown`](super::PoolErrorKind::ShutDown).
    ///
    /// # Errors
    ///
    /// The ends of some workers were not orderly:
    /// [`NotShutDown`](super::PoolErrorKind::NotShutDown) holds their errors.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the workers as dropping the last handle does.
    pub async fn shutdown(&self) -> Result<(), PoolError> {
        end_pool(self.core(), Ending::Shutdown).await
    }

    /// Kills all workers by `SIGKILL`, and waits until their processes have exited.
    ///
    /// Later operations of all handles fail with [`ShutDown`](super::PoolErrorKind::ShutDown).
    ///
    /// # Errors
    ///
    /// Some processes have not exited within 1 s, because they are in uninterruptible system calls:
    /// [`NotShutDown`](super::PoolErrorKind::NotShutDown) holds their errors.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not stop the kill.
    pub async fn kill(&self) -> Result<(), PoolError> {
        end_pool(self.core(), Ending::Kill).await
    }

    pub(super) fn new(lease: Arc<Lease>, template: Template) -> Self {
        Self { lease, template, of: PhantomData }
    }

    pub(in crate::pool) fn core(&self) -> &Arc<PoolCore> {
        self.lease.core()
    }

    /// Returns what keeps the workers alive.
    pub(in crate::pool) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }
}

impl<S: Served> Pool<S> {
    /// Waits for a worker that no other guard holds, and returns it. Of several, it is the one with
    /// the fewest calls in progress. Waiting callers get workers in the order in which they came.
    ///
    /// # Errors
    ///
    /// The pool has ended: it was shut down, or all workers have reached the limit of replacements,
    /// or its runtime has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue.
    pub async fn get(&self) -> Result<PoolClient<S>, PoolError> {
        let taken = self.core().take().await?;
        Ok(PoolClient { client: S::Client::from_client(taken.member().client().clone()), taken })
    }

    /// Returns a client of the worker with this index, which other callers may use as well. Waits
    /// while the worker is being replaced.
    ///
    /// # Errors
    ///
    /// - [`NoSuchWorker`](super::PoolErrorKind::NoSuchWorker): the index is not less than
    ///   [`len`](Self::len).
    /// - [`ReplaceLimitReached`](super::PoolErrorKind::ReplaceLimitReached): the worker has failed,
    ///   and is not replaced.
    /// - The pool has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub async fn worker(&self, worker_index: usize) -> Result<S::Client, PoolError> {
        let member = self.core().worker(worker_index).await?;
        Ok(S::Client::from_client(member.client().clone()))
    }

    /// Returns a client of the worker with the fewest calls and maps in progress, which other
    /// callers may use as well. Waits while all workers are being replaced.
    ///
    /// # Errors
    ///
    /// The pool has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub async fn least_loaded(&self) -> Result<S::Client, PoolError> {
        let member = self.core().least_loaded().await?;
        Ok(S::Client::from_client(member.client().clone()))
    }

    /// Calls a function on all workers at the same time, and returns the results by the index of the
    /// worker. The arguments are encoded once. Workers that are being replaced are waited for first.
    ///
    /// A worker that fails during the call is not called again.
    ///
    /// # Errors
    ///
    /// The pool has ended. The error of each call is in its place. The call of a worker that is not
    /// replaced any more fails with
    /// [`RestartLimitReached`](crate::CallErrorKind::RestartLimitReached). The arguments cannot
    /// contain pipes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the calls.
    pub fn broadcast<F>(
        &self,
        _function: DeclaredFunction<S::Client, F>,
        input: &<DeclaredFunction<S::Client, F> as Function>::Input,
    ) -> impl Future<Output = Result<Results<S, F>, PoolError>> + use<S, F>
    where
        S::Client: Declares<F>,
    {
        let (lease, message) = (self.lease.clone(), encode::<S, F>(input));
        async move {
            let targets = lease.core().targets().await?;
            let call = |Target { label, member }| match member {
                Ok(member) => Ok(call_encoded::<S::Client, F>(member.client(), &message)),
                Err(error) => {
                    let (function, kind) = (message.function(), call_error(&error));
                    Err(CallError::new(function, label, kind, false))
                }
            };
            Ok(call_all(targets.into_iter().map(call).collect()).await)
        }
    }

    /// Calls a function on all workers, and on every worker that is started later, before it gets
    /// any other work: replacements, and workers that [`resize`](Self::resize) adds. The arguments
    /// are encoded once and kept.
    ///
    /// Several set-up calls are made to new workers in the order in which they were made first. A
    /// replacement whose set-up call fails counts as a replacement that did not start.
    ///
    /// # Errors
    ///
    /// The call failed on a worker, although the worker did not fail:
    /// [`SetUp`](super::PoolErrorKind::SetUp). Then it is not made to later workers. Or the pool has
    /// ended, or a worker has reached the limit of replacements. The arguments cannot contain pipes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may cancel the calls of some workers. New workers are called
    /// nevertheless.
    pub fn set_up<F>(
        &self,
        _function: DeclaredFunction<S::Client, F>,
        input: &<DeclaredFunction<S::Client, F> as Function>::Input,
    ) -> impl Future<Output = Result<(), PoolError>> + Send + use<S, F>
    where
        S::Client: Declares<F, Error: fmt::Display>,
        F: 'static,
    {
        let (lease, message) = (self.lease.clone(), encode::<S, F>(input));
        async move { set_up(lease.core(), message, call_set_up::<S::Client, F>).await }
    }
}

/// The results of a broadcast, by the index of the worker.
type Results<S, F> = Vec<Result<OutputOf<S, F>, ErrorOf<S, F>>>;

type OutputOf<S, F> =
    <DeclaredFunction<<S as OneWorkerTraitPerType>::Client, F> as Function>::Output;
type ErrorOf<S, F> = <DeclaredFunction<<S as OneWorkerTraitPerType>::Client, F> as Function>::Error;

/// Encodes a call for several workers. The limit of each is checked when it is called.
fn encode<S: Served, F>(
    input: &<<S::Client as Declares<F>>::Codecs as Arguments>::Input,
) -> SharedCall
where
    S::Client: Declares<F>,
{
    let arguments = <S::Client as Declares<F>>::Codecs::borrow(input);
    encode_call::<S::Client, F>(arguments, u32::MAX as usize)
}

/// Sends all calls before it awaits the first result.
async fn call_all<T, E: CallFailure>(
    mut calls: Vec<Result<Call<T, E>, CallError>>,
) -> Vec<Result<T, E>> {
    let mut results: Vec<_> = calls.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (call, result) in calls.iter_mut().zip(&mut results) {
            if let Ok(call) = call
                && let Poll::Ready(ready) = Pin::new(call).poll(cx)
            {
                *result = Some(ready);
            }
        }
        Poll::Ready(())
    })
    .await;
    for (call, result) in calls.into_iter().zip(&mut results) {
        if result.is_none() {
            *result = Some(match call {
                Ok(call) => call.await,
                Err(error) => Err(error.into()),
            });
        }
    }
    results.into_iter().flatten().collect()
}

/// Makes a set-up call.
fn call_set_up<C: Declares<F, Error: fmt::Display>, F: 'static>(
    client: &Client,
    message: &SharedCall,
) -> SetUpFuture {
    let call = call_encoded::<C, F>(client, message);
    Box::pin(async move { call.await.map(drop).map_err(|error| error.to_string()) })
}

impl<S: OneWorkerTraitPerType> PoolClient<S> {
    /// Returns the index of the worker in its pool.
    #[must_use]
    pub fn worker_index(&self) -> usize {
        self.taken.member().index()
    }
}

impl<S: OneWorkerTraitPerType> Deref for PoolClient<S> {
    type Target = S::Client;

    fn deref(&self) -> &S::Client {
        &self.client
    }
}

impl<S: OneWorkerTraitPerType> fmt::Debug for PoolClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolClient")
            .field("worker_index", &self.worker_index())
            .field("client", self.client.client())
            .finish()
    }
}

impl<S> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Self { lease: self.lease.clone(), template: self.template.clone(), of: self.of }
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.len()).finish_non_exhaustive()
    }
}
