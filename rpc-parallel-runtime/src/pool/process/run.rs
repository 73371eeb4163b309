//! One call of a process function, in a process of its own.

use std::fmt;
use std::future::ready;
use std::mem;
use std::pin::Pin;
use std::task::{self, Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::run_error::RunError;
use super::spawner::process_spawner;
use crate::connection::{Call, EncodedCall, FunctionError, IsResult, Never, TimeLimit};
use crate::master::{Control, RestartPolicy, Spawner, Spawning};
use crate::wire::{FunctionInfo, Settings};
use crate::worker::{Arguments, Declares, FunctionErrorOf, ProcessClient, Processes, WorkerClient};

/// How long a run whose time has passed waits for the exit of the killed process. A process that is
/// in an uninterruptible system call exits later.
const KILL_TIMEOUT: Duration = Duration::from_millis(50);

/// One call of a function in a new process: a future of its result. `score::run(..)` makes it.
///
/// The first poll starts the process. Before that, [`timeout`](Self::timeout) and
/// [`spawner`](Self::spawner) set options. The run borrows no argument, because the arguments are
/// already encoded.
///
/// The process ends when the result has been received. If the function has pipes, the process ends
/// after they have ended or were dropped, so nothing is lost that the function wrote before it
/// returned. The future does not wait for the exit of the process.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::launch::ResourceLimit;
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn pages(document: &[u8]) -> usize {
///     document.split(|byte| *byte == 0x0c).count()
/// }
///
/// async fn count(document: &[u8]) -> Result<usize, AnyError> {
///     let run = pages::run(document)
///         .timeout(Duration::from_secs(10))
///         .spawner(|spawner| spawner.limit(ResourceLimit::memory(1 << 30)));
///     Ok(run.await?)
/// }
/// ```
///
/// # Errors
///
/// The output is a [`RunError`], which says whether the process did not start, the function
/// returned an error or panicked, or its process exited or was killed by a signal.
///
/// # Panics
///
/// Polling the future panics outside of a tokio runtime with I/O and time.
/// [`wait`](crate::Wait::wait) needs none.
///
/// # Cancel safety
///
/// Dropping the future ends the process. The future of an `async fn` is dropped at its next await
/// point. If the process does not end within 0.5 s, this process sends `SIGTERM` to it, and `SIGKILL`
/// 0.5 s later.
#[must_use = "a run starts no process unless it is awaited"]
pub struct ProcessRun<T, E = Never> {
    function: &'static FunctionInfo,
    inherited: Option<Instant>,
    timeout: Option<Duration>,
    /// Made by the first poll, because it needs a tokio runtime.
    limit: Option<Box<TimeLimit>>,
    state: State<T, E>,
}

/// A run of a function that returns `R`, an alias of `Result`.
pub type TryProcessRun<R> = ProcessRun<<R as IsResult>::Ok, <R as IsResult>::Err>;

type FallibleCall<T, E> = EncodedCall<T, FunctionError<E>>;

enum State<T, E> {
    New(Box<Spawner<Processes>>, FallibleCall<T, E>),
    Starting(Spawning<ProcessClient>, FallibleCall<T, E>),
    Calling(ProcessClient, Call<T, FunctionError<E>>),
    /// The time has passed, and the process is being killed.
    Killing(Killing),
    Done,
}

type Killing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Kills the process. The exit is not awaited for longer than the timeout, because the caller of the
/// run is waiting.
fn kill(client: ProcessClient) -> Killing {
    Box::pin(async move {
        let _ = timeout(KILL_TIMEOUT, client.kill()).await;
    })
}

/// Makes a run. This is the body of the generated function `run`.
#[doc(hidden)]
pub fn run<F>(
    arguments: <<ProcessClient as Declares<F>>::Codecs as Arguments>::Borrowed<'_>,
) -> ProcessRun<<ProcessClient as Declares<F>>::Output, FunctionErrorOf<ProcessClient, F>>
where
    ProcessClient: Declares<F>,
{
    let function = const { &<ProcessClient as Declares<F>>::FUNCTION };
    let answer = <ProcessClient as Declares<F>>::ANSWER.with_function_error();
    // The settings of the process are known when it has started. The call checks its limit then.
    let max = Settings::MAX_MESSAGE_SIZE;
    ProcessRun::new(EncodedCall::new(function, answer, max, |sink| {
        <ProcessClient as Declares<F>>::CODECS.encode(arguments, sink)
    }))
}

impl<T, E> ProcessRun<T, E> {
    fn new(call: FallibleCall<T, E>) -> Self {
        let (function, inherited) = (call.function(), call.inherited_deadline());
        let spawner = process_spawner(function.name());
        let state = State::New(Box::new(spawner), call);
        Self { function, inherited, timeout: None, limit: None, state }
    }

    /// Kills the process if there is no result within `after` of the first poll. Default: no
    /// timeout.
    ///
    /// The run then fails with [`RunError::TimedOut`], at most 100 ms later, even if the process is
    /// stopped, computes, or is in an uninterruptible system call.
    ///
    /// A run that is made inside a worker function or a process function with a deadline has that
    /// deadline, too.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Changes the options of the process: environment, limits, redirects, launcher, settings.
    /// Default: those of [`Spawner`], the name of the function as the name of the worker, and the
    /// [`Snapshot`](crate::Snapshot) of `#[entry]`, if there is one, as its launcher.
    ///
    /// The spawner's [`restart`](Spawner::restart) has no effect, because the process runs one call.
    /// Calling this function after the first poll has no effect.
    pub fn spawner(
        mut self,
        configure: impl FnOnce(Spawner<Processes>) -> Spawner<Processes>,
    ) -> Self {
        self.state = match mem::replace(&mut self.state, State::Done) {
            State::New(spawner, call) => State::New(Box::new(configure(*spawner)), call),
            state => state,
        };
        self
    }

    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RunError<E>>> {
        loop {
            match &mut self.state {
                State::New(..) => {
                    let State::New(spawner, call) = mem::replace(&mut self.state, State::Done)
                    else {
                        unreachable!("the state is `New`")
                    };
                    let spawner = spawner.restart(RestartPolicy::never());
                    self.state = State::Starting(spawner.spawn(()), call);
                }
                State::Starting(spawning, _) => {
                    let spawned = task::ready!(Pin::new(spawning).poll(cx));
                    let State::Starting(_, call) = mem::replace(&mut self.state, State::Done)
                    else {
                        unreachable!("the state is `Starting`")
                    };
                    let client = spawned?;
                    let call = call.on(client.client());
                    self.state = State::Calling(client, call);
                }
                State::Calling(_, call) => {
                    let result = task::ready!(Pin::new(call).poll(cx));
                    self.state = State::Done;
                    return Poll::Ready(Ok(result?));
                }
                State::Killing(killing) => {
                    task::ready!(killing.as_mut().poll(cx));
                    self.state = State::Done;
                    let after = self.limit.as_ref().map(|it| it.after()).unwrap_or_default();
                    let function = self.function;
                    return Poll::Ready(Err(RunError::TimedOut { function, after }));
                }
                State::Done => {
                    panic!("the run of `{}` was polled after it resolved", self.function.name())
                }
            }
        }
    }

    /// Starts the timer, if there is a deadline.
    fn begin_limit(&mut self) {
        if self.limit.is_none() {
            self.limit = TimeLimit::begin(self.timeout, self.inherited);
        }
    }

    /// Begins to kill the process when the time has passed.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = &mut self.limit else { return Poll::Pending };
        if let State::Killing(_) = self.state {
            return Poll::Pending;
        }
        task::ready!(limit.poll(cx));
        self.state = State::Killing(match mem::replace(&mut self.state, State::Done) {
            State::Calling(client, _) => kill(client),
            // Dropping the start kills the process.
            _ => Box::pin(ready(())),
        });
        Poll::Ready(())
    }
}

impl<T, E> Future for ProcessRun<T, E> {
    type Output = Result<T, RunError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.get_mut();
        run.begin_limit();
        loop {
            if let Poll::Ready(result) = run.poll_result(cx) {
                return Poll::Ready(result);
            }
            task::ready!(run.poll_limit(cx));
        }
    }
}

impl<T, E> Unpin for ProcessRun<T, E> {}

impl<T, E> Drop for ProcessRun<T, E> {
    fn drop(&mut self) {
        // Pipes of the call would otherwise keep the connection open, and so the process running.
        if let State::Calling(client, _) = &self.state {
            client.close();
        }
    }
}

impl<T, E> fmt::Debug for ProcessRun<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessRun")
            .field("function", &self.function.signature())
            .finish_non_exhaustive()
    }
}
