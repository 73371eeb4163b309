//! Functions as values: generic code takes one and runs it on a client.

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
/// Every generated client has one constant for each of its functions, such as
/// `ArithmeticClient::SUM`. A function takes its input by reference, so that whoever holds it can
/// run it again.
pub trait Function {
    /// The client that it runs on.
    type Client: WorkerClient;

    /// The arguments in owned form: `()` for none, the argument itself for one, a tuple for more.
    type Input;

    /// What a caller gets.
    type Output;

    /// What a caller gets instead.
    type Error;

    /// The future of both.
    type Call: CallOptions<Output = Result<Self::Output, Self::Error>>;

    /// Calls the function.
    fn call(&self, client: &Self::Client, input: &Self::Input) -> Self::Call;

    /// Changes the output, in the process of the caller.
    ///
    /// Like `map` of an iterator: of two, the first sees the output first.
    fn map_output<T, M: Fn(Self::Output) -> T + Clone>(self, map: M) -> MapOutput<Self, M>
    where
        Self: Sized,
    {
        MapOutput { function: self, map }
    }

    /// Makes the input from something else, in the process of the caller.
    ///
    /// Of two, the last sees the input first.
    fn map_input<I, M: Fn(&I) -> Self::Input>(self, map: M) -> MapInput<Self, M, I>
    where
        Self: Sized,
    {
        MapInput { function: self, map, of: PhantomData }
    }
}

/// What can be said of a call before it is first polled, whatever its output is changed to.
pub trait CallOptions: Future + Unpin + Sized {
    /// Fails the call if there is no answer within this time: see [`Call::timeout`].
    #[must_use]
    fn timeout(self, after: Duration) -> Self;

    /// Lets a call that is made inside a function take more time than the function has: see
    /// [`Call::without_inherited_deadline`].
    #[must_use]
    fn without_inherited_deadline(self) -> Self;
}

impl<T, E: CallFailure> CallOptions for Call<T, E> {
    fn timeout(self, after: Duration) -> Self {
        Self::timeout(self, after)
    }

    fn without_inherited_deadline(self) -> Self {
        Self::without_inherited_deadline(self)
    }
}

/// A function that a client of type `C` declares. Generated clients hold them as constants.
pub struct DeclaredFunction<C, F>(PhantomData<fn(C, F)>);

impl<C, F> DeclaredFunction<C, F> {
    #[doc(hidden)]
    pub const NEW: Self = Self(PhantomData);
}

impl<C: Declares<F>, F> DeclaredFunction<C, F> {
    /// Returns the name, id and signature of the function.
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
        f.debug_tuple("Declared").field(&C::FUNCTION.signature()).finish()
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

/// A function whose output is changed: see [`Function::map_output`].
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

/// A call of a function whose output is changed.
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

/// A function whose input is made from something else: see [`Function::map_input`].
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
