//! Waiting for a future in code that is not async.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::background;
use crate::connection::{Call, CallFailure};

/// Waits for a future in code that is not async. It is implemented for every future, and for
/// every type that can be awaited.
///
/// Outside of a tokio runtime, the future runs on a runtime of the program that is started when it
/// is first needed. It has one thread, "rpc-parallel rt", on which the connections and tasks of all
/// such futures run. The workers that they start live on it, too, until their clients are dropped or
/// the program ends.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// #[rpc_parallel::entry]
/// fn main() -> Result<(), AnyError> {
///     assert_eq!(square::run(3).wait()?, 9);
///     Ok(())
/// }
/// ```
pub trait Wait: IntoFuture + Sized {
    /// Blocks this thread until the future is ready, and returns its output.
    ///
    /// On a thread of a multi-threaded tokio runtime, the future runs on that runtime, whose other
    /// tasks continue on other threads.
    ///
    /// # Panics
    ///
    /// Panics in async code of a single-threaded tokio runtime, whose thread must not be blocked:
    /// write `.await` there. The function of a worker or of `#[process]` is such code, also if it is
    /// not an `async fn`. In it, write `rpc_parallel::blocking(|| future.wait()).await`, or an
    /// `async fn` and `.await`.
    ///
    /// Panics if the runtime cannot be started, because the system has no more threads or
    /// descriptors.
    fn wait(self) -> Self::Output {
        let mut output = None;
        block_on(pin!(async { output = Some(self.into_future().await) }));
        output.expect("`block_on` returns after the future has completed")
    }
}

impl<F: IntoFuture> Wait for F {}

impl<T, E: CallFailure> Call<T, E> {
    /// Blocks this thread until the call is answered, and returns its result, as [`Wait::wait`] does
    /// for every future.
    ///
    /// For a short time this thread looks for the answer itself, so that it does not wait for another
    /// thread to wake up. [`Settings::busy_poll`](crate::Settings::busy_poll) limits this time. If
    /// the connection belongs to a single-threaded runtime, which looks for messages itself, this
    /// thread sleeps until the answer is there.
    ///
    /// ```
    /// # fn example(call: rpc_parallel::Call<u64>) -> Result<u64, rpc_parallel::CallError> {
    /// // let call = client.sum(&numbers);
    /// let sum = call.wait()?;
    /// # Ok(sum)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the [call](Call).
    ///
    /// # Panics
    ///
    /// Those of [`Wait::wait`].
    pub fn wait(mut self) -> Result<T, E> {
        poll_fn(move |cx| self.poll_looking(cx)).wait()
    }
}

/// Runs a future to completion. It takes a trait object, so that it is compiled once.
fn block_on(future: Pin<&mut dyn Future<Output = ()>>) {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(future));
        }
        // On a thread for blocking code this is allowed. In async code tokio panics.
        Ok(handle) => handle.block_on(future),
        Err(_) => match background::runtime() {
            Ok(runtime) => runtime.block_on(future),
            Err(error) => panic!("failed to start a tokio runtime: {error}"),
        },
    }
}
