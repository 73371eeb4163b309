//! Functions as values, which generic code can call on any client of their type.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::arguments::Arguments;
use super::declares::{Declares, WorkerClient, call};
use crate::connection::{Call, CallFailure};
use crate::wire::FunctionInfo;

/// A function of a worker, as a value.
///
/// Every generated client has a constant for each of its functions, such as
/// `ArithmeticClient::SUM`. [`call`](Self::call) takes the input by reference, so that generic code
/// can call the function again with the same input.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
/// }
///
/// /// Calls a function, and calls it once more if that fails.
/// async fn call_twice<F: Function>(
///     function: F,
///     client: &F::Client,
///     input: &F::Input,
/// ) -> Result<F::Output, F::Error> {
///     match function.call(client, input).await {
///         Ok(output) => Ok(output),
///         Err(_) => function.call(client, input).await,
///     }
/// }
///
/// async fn is_even(client: &ArithmeticClient) -> Result<bool, CallError> {
///     let function = ArithmeticClient::SUM
///         .map_input(|limit: &u64| (0..*limit).collect()) // `Vec<u64>` is the owned `&[u64]`
///         .map_output(|sum| sum % 2 == 0);
///     call_twice(function, client, &10).await
/// }
/// ```
pub trait Function {
    /// The client on which the function is called.
    type Client: WorkerClient;

    /// The arguments in owned form: `()` if there are none, the argument itself if there is one, a
    /// tuple otherwise.
    type Input;

    /// The output of a successful call.
    type Output;

    /// The error of a failed call.
    type Error;

    /// The future that [`call`](Self::call) returns.
    type Call: CallOptions<Output = Result<Self::Output, Self::Error>>;

    /// Creates a call of the function. The call is sent when it is first polled.
    fn call(&self, client: &Self::Client, input: &Self::Input) -> Self::Call;

    /// Returns a function that converts the output with `map`, in the process of the caller.
    ///
    /// As with [`Iterator::map`], the closure of the first `map_output` in a chain runs first.
    fn map_output<T, M: Fn(Self::Output) -> T + Clone>(self, map: M) -> MapOutput<Self, M>
    where
        Self: Sized,
    {
        MapOutput { function: self, map }
    }

    /// Returns a function that computes the input with `map` from another value, in the process of
    /// the caller.
    ///
    /// The closure of the last `map_input` in a chain runs first.
    fn map_input<I, M: Fn(&I) -> Self::Input>(self, map: M) -> MapInput<Self, M, I>
    where
        Self: Sized,
    {
        MapInput { function: self, map, of: PhantomData }
    }
}

/// The options of a call, which apply before it is first polled.
///
/// [`Call`] and the calls of mapped functions implement it.
pub trait CallOptions: Future + Unpin + Sized {
    /// Sets a timeout, after which the call fails. See [`Call::timeout`].
    #[must_use]
    fn timeout(self, after: Duration) -> Self;

    /// Ignores the deadline of the function in which the call is made. See
    /// [`Call::without_inherited_deadline`].
    #[must_use]
    fn without_inherited_deadline(self) -> Self;

    /// Kills the worker's process if the deadline of the call passes. See [`Call::kill`].
    #[must_use]
    fn kill(self) -> Self;
}

impl<T, E: CallFailure> CallOptions for Call<T, E> {
    fn timeout(self, after: Duration) -> Self {
        Self::timeout(self, after)
    }

    fn without_inherited_deadline(self) -> Self {
        Self::without_inherited_deadline(self)
    }

    fn kill(self) -> Self {
        Self::kill(self)
    }
}

/// A [`Function`] that a client of type `C` declares. Generated clients have one constant of this
/// type for each function.
pub struct DeclaredFunction<C, F>(PhantomData<fn(C, F)>);

impl<C, F> DeclaredFunction<C, F> {
    #[doc(hidden)]
    pub const NEW: Self = Self(PhantomData);
}

impl<C: Declares<F>, F> DeclaredFunction<C, F> {
    /// Returns the id, name, signature and source location of the function.
    #[must_use]
    pub fn info(self) -> FunctionInfo {
        C::FUNCTION
    }
}

impl<C, F> Clone for DeclaredFunction<C, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, F> Copy for DeclaredFunction<C, F> {}

impl<C: Declares<F>, F> fmt::Debug for DeclaredFunction<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeclaredFunction").field(&C::FUNCTION.signature()).finish()
    }
}

impl<C: Declares<F>, F> Function for DeclaredFunction<C, F> {
    type Client = C;
    type Input = <C::Codecs as Arguments>::Input;
    type Output = C::Output;
    type Error = C::Error;
    type Call = Call<C::Output, C::Error>;

    fn call(&self, client: &C, input: &Self::Input) -> Self::Call {
        call::<C, F>(client, C::Codecs::borrow(input))
    }
}

/// A function with a converted output, returned by [`Function::map_output`].
#[derive(Clone, Copy, Debug)]
pub struct MapOutput<F, M> {
    function: F,
    map: M,
}

impl<F: Function, T, M: Fn(F::Output) -> T + Clone + Unpin> Function for MapOutput<F, M> {
    type Client = F::Client;
    type Input = F::Input;
    type Output = T;
    type Error = F::Error;
    type Call = MapOutputCall<F::Call, M>;

    fn call(&self, client: &F::Client, input: &F::Input) -> Self::Call {
        MapOutputCall { call: self.function.call(client, input), map: self.map.clone() }
    }
}

/// A call of a [`MapOutput`] function.
#[must_use = "a call does nothing unless it is awaited"]
#[derive(Debug)]
pub struct MapOutputCall<C, M> {
    call: C,
    map: M,
}

impl<T, U, E, C, M> CallOptions for MapOutputCall<C, M>
where
    C: CallOptions<Output = Result<T, E>>,
    M: Fn(T) -> U + Unpin,
{
    fn timeout(self, after: Duration) -> Self {
        Self { call: self.call.timeout(after), map: self.map }
    }

    fn without_inherited_deadline(self) -> Self {
        Self { call: self.call.without_inherited_deadline(), map: self.map }
    }

    fn kill(self) -> Self {
        Self { call: self.call.kill(), map: self.map }
    }
}

impl<T, U, E, C, M> Future for MapOutputCall<C, M>
where
    C: Future<Output = Result<T, E>> + Unpin,
    M: Fn(T) -> U + Unpin,
{
    type Output = Result<U, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.call).poll(cx));
        Poll::Ready(result.map(&self.map))
    }
}

/// A function with a computed input, returned by [`Function::map_input`].
pub struct MapInput<F, M, I> {
    function: F,
    map: M,
    of: PhantomData<fn(&I)>,
}

impl<F: Clone, M: Clone, I> Clone for MapInput<F, M, I> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), map: self.map.clone(), of: PhantomData }
    }
}

impl<F: fmt::Debug, M, I> fmt::Debug for MapInput<F, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapInput").field("function", &self.function).finish_non_exhaustive()
    }
}

impl<F: Function, I, M: Fn(&I) -> F::Input> Function for MapInput<F, M, I> {
    type Client = F::Client;
    type Input = I;
    type Output = F::Output;
    type Error = F::Error;
    type Call = F::Call;

    fn call(&self, client: &F::Client, input: &I) -> Self::Call {
        self.function.call(client, &(self.map)(input))
    }
}
