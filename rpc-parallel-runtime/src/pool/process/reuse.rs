//! A process that runs a process function for many calls.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::spawner::process_spawner;
use crate::master::{SpawnError, Spawner, Spawning};
use crate::worker::{Declares, ProcessClient, Processes};

/// The type beside a process function. `#[process]` implements it.
#[doc(hidden)]
pub trait OfProcess {
    fn of(process: ProcessClient) -> Self;
}

/// The start of a process for many calls of a function: a future of the type beside the function.
/// `score::reuse()` makes it.
///
/// The first poll starts the process. Before that, [`spawner`](Self::spawner) sets options.
///
/// The process is a value with the function `call`, which takes the arguments of the function. Any
/// number of calls can run at the same time, and each gets its own result. Clones share the process.
/// It ends when the last clone is dropped, with its calls and pipes. If it ends before that, each
/// call in flight and each later call fails with
/// [`WorkerDied`](crate::CallErrorKind::WorkerDied).
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # async fn example() -> Result<(), AnyError> {
/// let process = square::reuse().await?;
/// let (three, four) = (process.call(3), process.call(4));
/// assert_eq!((three.await?, four.await?), (9, 16));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The process did not start, see [`Spawning`](Spawning#errors).
///
/// # Panics
///
/// Polling the future panics outside of a tokio runtime. [`wait`](crate::Wait::wait) needs none.
///
/// # Cancel safety
///
/// Dropping the future ends the process, if it has been started.
#[must_use = "a process starts only when this is awaited"]
pub struct Reuse<H> {
    state: State,
    of: PhantomData<fn() -> H>,
}

enum State {
    New(Box<Spawner<Processes>>),
    Starting(Spawning<ProcessClient>),
    Done,
}

/// Makes the start of a process. This is the body of the generated function `reuse`.
#[doc(hidden)]
pub fn reuse<F, H>() -> Reuse<H>
where
    ProcessClient: Declares<F>,
{
    Reuse::new(<ProcessClient as Declares<F>>::FUNCTION.name())
}

impl<H> Reuse<H> {
    fn new(name: &str) -> Self {
        let spawner = process_spawner(name);
        Self { state: State::New(Box::new(spawner)), of: PhantomData }
    }

    /// Changes the options of the process: environment, limits, redirects, launcher, settings.
    /// Default: those of [`Spawner`], the name of the function as the name of the worker, and the
    /// [`Snapshot`](crate::Snapshot) of `#[entry]`, if there is one, as its launcher.
    ///
    /// Calling this function after the first poll has no effect.
    pub fn spawner(
        mut self,
        configure: impl FnOnce(Spawner<Processes>) -> Spawner<Processes>,
    ) -> Self {
        self.state = match mem::replace(&mut self.state, State::Done) {
            State::New(spawner) => State::New(Box::new(configure(*spawner))),
            state => state,
        };
        self
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ProcessClient, SpawnError>> {
        if let Self::New(_) = self
            && let Self::New(spawner) = mem::replace(self, Self::Done)
        {
            *self = Self::Starting(spawner.spawn(()));
        }
        let Self::Starting(spawning) = self else {
            panic!("`Reuse` polled after it had completed")
        };
        let spawned = ready!(Pin::new(spawning).poll(cx));
        *self = Self::Done;
        Poll::Ready(spawned)
    }
}

impl<H: OfProcess> Future for Reuse<H> {
    type Output = Result<H, SpawnError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx).map_ok(H::of)
    }
}

impl<H> fmt::Debug for Reuse<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reuse").finish_non_exhaustive()
    }
}
