//! The start of a job.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::job::Job;
use super::job_id::JobId;
use super::protocol::{KeeperClient, Start};
use super::start_error::StartJobError;
use super::top::keeper;
use crate::connection::{AnyError, FunctionError, IsResult, Never};
use crate::wire::{FunctionId, FunctionInfo, Settings, Sink};
use crate::worker::{Arguments, Declares, FunctionErrorOf, ProcessClient, WorkerClient, call};

/// The start of a job: a future of the [`Job`]. `score::start(..)` makes it.
///
/// The first poll sends the request to the process at the top of the tree, which starts the process
/// of the job. The future resolves when that process has started. It borrows no argument.
///
/// # Errors
///
/// The process did not start, an argument could not be sent, or the top process cannot be reached.
///
/// # Panics
///
/// Polling the future panics outside of a tokio runtime, if it is made inside a function with a
/// deadline.
///
/// # Cancel safety
///
/// Dropping the future before it is ready ends the process, if it has been started, unless the answer
/// of the top process is already on its way. In that case the job runs without a `Job`.
#[must_use = "a job starts only when this is awaited"]
pub struct StartJob<T, E = Never> {
    state: State,
    timeout: Option<Duration>,
    of: PhantomData<fn() -> (T, E)>,
}

enum State {
    New(&'static FunctionInfo, Result<Bytes, StartJobError>),
    Starting(Starting),
    Done,
}

type Starting = Pin<Box<dyn Future<Output = Result<(JobId, FunctionId), StartJobError>> + Send>>;

/// The start of a job of a function that returns `R`, an alias of `Result`.
pub type TryStartJob<R> = StartJob<<R as IsResult>::Ok, <R as IsResult>::Err>;

/// Makes the start of a job. This is the body of the generated function `start`.
#[doc(hidden)]
pub fn start<F>(
    arguments: <<ProcessClient as Declares<F>>::Codecs as Arguments>::Borrowed<'_>,
) -> StartJob<<ProcessClient as Declares<F>>::Output, FunctionErrorOf<ProcessClient, F>>
where
    ProcessClient: Declares<F>,
{
    let mut encoded = Vec::new();
    // The connection to the keeper checks the limit of the program.
    let mut sink = Sink::new(&mut encoded, Settings::MAX_MESSAGE_SIZE);
    let written = <ProcessClient as Declares<F>>::CODECS.encode(arguments, &mut sink);
    let written = written.map_err(AnyError::from).and_then(|()| Ok(sink.finish()?));
    let encoded = match written {
        Ok(_) => Ok(Bytes::from(encoded)),
        Err(error) => Err(StartJobError::Arguments { why: error.to_string() }),
    };
    let function = const { &<ProcessClient as Declares<F>>::FUNCTION };
    StartJob { state: State::New(function, encoded), timeout: None, of: PhantomData }
}

impl<T, E> StartJob<T, E> {
    /// Kills the process of the job if there is no result within `after` of its start. Default: no
    /// timeout.
    ///
    /// A join then fails with [`JoinError::TimedOut`](crate::JoinError::TimedOut). Calling this
    /// function after the first poll has no effect.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rpc_parallel::prelude::*;
    ///
    /// #[rpc_parallel::process]
    /// fn index(path: &str) -> usize {
    ///     path.len() // stands for hours of work
    /// }
    ///
    /// # async fn example() -> Result<(), AnyError> {
    /// let job = index::start("/srv").timeout(Duration::from_secs(3600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }
}

async fn request(
    function: &'static FunctionInfo,
    arguments: Result<Bytes, StartJobError>,
    timeout: Option<Duration>,
) -> Result<(JobId, FunctionId), StartJobError> {
    let arguments = arguments?;
    let unreachable = |why| StartJobError::Unreachable { why };
    let keeper = keeper().await.map_err(unreachable)?;
    let id = function.id();
    let started = call::<KeeperClient, Start>(&keeper, (&id.get(), &arguments, &timeout)).await;
    match started {
        Ok(number) => Ok((JobId { keeper: keeper.worker_id(), number }, id)),
        Err(FunctionError::Function(error)) => Err(error),
        Err(FunctionError::Call(error)) => Err(unreachable(error.kind().to_string())),
    }
}

impl<T, E> Future for StartJob<T, E> {
    type Output = Result<Job<T, E>, StartJobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New(..) = self.state
            && let State::New(function, arguments) = mem::replace(&mut self.state, State::Done)
        {
            self.state = State::Starting(Box::pin(request(function, arguments, self.timeout)));
        }
        let State::Starting(starting) = &mut self.state else {
            panic!("the start of a job was polled after it resolved")
        };
        let started = ready!(starting.as_mut().poll(cx));
        self.state = State::Done;
        Poll::Ready(started.map(|(id, function)| Job::new(id, function)))
    }
}

impl<T, E> fmt::Debug for StartJob<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartJob").finish_non_exhaustive()
    }
}
