//! Decodes the arguments of a call, runs the user's function, and encodes its result.
//!
//! The code is compiled once for each *signature* in a program, not for each function: the
//! functions are function pointers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use super::arguments::Arguments;
use super::context::Context;
use super::declares::{Declares, WorkerClient};
#[cfg(feature = "pool")]
use super::items::{BegunItem, ItemScope, RunningItem, SyncRun};
use crate::connection::{Answer, Answering, AnyError, CallFailure, Incoming, Running};
use crate::wire::{FunctionInfo, Refusal};
#[cfg(feature = "pool")]
use crate::wire::{ItemReader, Outcome};

/// The state and the context that a function is called with, in addition to its arguments.
#[doc(hidden)]
pub struct Scope<S, C> {
    connection: Arc<(Arc<S>, Context<C>)>,
    /// The context of one call, if its function takes a `Context`.
    context: Option<Context<C>>,
}

impl<S, C> Clone for Scope<S, C> {
    fn clone(&self) -> Self {
        Self { connection: self.connection.clone(), context: None }
    }
}

impl<S, C> Scope<S, C> {
    pub(super) fn new(state: Arc<S>, context: Context<C>) -> Self {
        Self { connection: Arc::new((state, context)), context: None }
    }

    pub fn state(&self) -> &S {
        &self.connection.0
    }

    pub fn context(&self) -> &Context<C> {
        self.context.as_ref().unwrap_or(&self.connection.1)
    }

    /// Returns the scope of one call.
    fn of_call(&self, call: &mut Incoming<'_>, takes_context: bool) -> Self {
        let context = takes_context.then(|| self.connection.1.of_call(call.scope.get()));
        Self { connection: self.connection.clone(), context }
    }

    /// Returns the scope of one item of a map.
    #[cfg(feature = "pool")]
    fn of_item(&self, item: &ItemScope, takes_context: bool) -> Self {
        let context = takes_context.then(|| self.connection.1.of_item(item));
        Self { connection: self.connection.clone(), context }
    }
}

/// One function of a worker type.
#[doc(hidden)]
pub trait Handle<S, C>: Sync {
    fn info(&self) -> &FunctionInfo;

    /// Begins one call. Answers it, or returns the running function, which will.
    fn call(
        &self,
        scope: &Scope<S, C>,
        call: Incoming<'_>,
        cx: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>>;

    /// Returns whether the function is a plain `fn`, which never waits.
    #[cfg(feature = "pool")]
    fn is_synchronous(&self) -> bool;

    /// Skips one item of a map. Returns whether it is complete.
    #[cfg(feature = "pool")]
    fn skip_item(&self, reader: &mut ItemReader<'_>) -> bool;

    /// Begins one item of a map. Appends the result to `out`, up to `max` bytes, if it is there at
    /// once.
    #[cfg(feature = "pool")]
    fn begin_item(
        &self,
        scope: &Scope<S, C>,
        item: &ItemScope,
        input: ItemReader<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> BegunItem;

    /// Runs a synchronous function on the items of a slice.
    #[cfg(feature = "pool")]
    fn run_slice(&self, scope: &Scope<S, C>, items: &mut SyncRun<'_>);
}

/// The functions of a worker type, in the order of its trait.
#[doc(hidden)]
pub type Table<S, C> = &'static [&'static dyn Handle<S, <C as WorkerClient>::Connection>];

/// Implemented by `#[worker]` on a trait for all types that implement the trait.
#[doc(hidden)]
pub trait Dispatch<S: 'static>: WorkerClient {
    const TABLE: Table<S, Self>;

    /// Returns the table. That of process functions is known only when the program runs.
    fn table() -> Table<S, Self> {
        Self::TABLE
    }
}

/// The decoded arguments of the function `F` of the client `C`.
type Owned<C, F> = <<C as Declares<F>>::Codecs as Arguments>::Owned;

type RunAsynchronous<C, F, S> = fn(
    Scope<S, <C as WorkerClient>::Connection>,
    Owned<C, F>,
) -> BoxFuture<<C as Declares<F>>::Returns>;

type RunSynchronous<C, F, S> =
    fn(&Scope<S, <C as WorkerClient>::Connection>, Owned<C, F>) -> <C as Declares<F>>::Returns;

type AsynchronousOf<C, F, S> = Asynchronous<
    S,
    <C as WorkerClient>::Connection,
    <C as Declares<F>>::Codecs,
    <C as Declares<F>>::Returns,
    <C as Declares<F>>::Output,
    <C as Declares<F>>::Error,
>;

type SynchronousOf<C, F, S> = Synchronous<
    S,
    <C as WorkerClient>::Connection,
    <C as Declares<F>>::Codecs,
    <C as Declares<F>>::Returns,
    <C as Declares<F>>::Output,
    <C as Declares<F>>::Error,
>;

type BoxFuture<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// Boxes the future that a function returns.
#[doc(hidden)]
pub fn boxed<F: Future + Send + 'static>(future: F) -> BoxFuture<F::Output> {
    Box::pin(future)
}

/// A function that is an `async fn`.
#[doc(hidden)]
pub struct Asynchronous<S, C, A: Arguments, R, T, E: CallFailure> {
    info: FunctionInfo,
    codecs: A,
    answer: Answer<R, T, E>,
    run: fn(Scope<S, C>, A::Owned) -> BoxFuture<R>,
    takes_context: bool,
}

impl<S, C, A: Arguments, R, T, E: CallFailure> Asynchronous<S, C, A, R, T, E> {
    /// Declares that the function takes a `Context`, which is then created for each call.
    #[must_use]
    pub const fn takes_context(mut self) -> Self {
        self.takes_context = true;
        self
    }
}

#[doc(hidden)]
pub const fn asynchronous<C: Declares<F>, F, S>(
    run: RunAsynchronous<C, F, S>,
) -> AsynchronousOf<C, F, S> {
    let (info, codecs, answer) = (C::FUNCTION, C::CODECS, C::ANSWER);
    Asynchronous { info, codecs, answer, run, takes_context: false }
}

impl<S, C, A, R, T, E> Handle<S, C> for Asynchronous<S, C, A, R, T, E>
where
    A: Arguments,
    R: 'static,
    T: 'static,
    E: CallFailure + 'static,
{
    fn info(&self) -> &FunctionInfo {
        &self.info
    }

    fn call(
        &self,
        scope: &Scope<S, C>,
        call: Incoming<'_>,
        cx: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let mut call = call;
        let arguments = decode(self.codecs, &mut call, answering)?;
        let future = (self.run)(scope.of_call(&mut call, self.takes_context), arguments);
        let mut running = RunningFuture { future, answer: self.answer };
        match running.poll(cx, answering) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(Box::pin(running)),
        }
    }

    #[cfg(feature = "pool")]
    fn is_synchronous(&self) -> bool {
        false
    }

    #[cfg(feature = "pool")]
    fn skip_item(&self, reader: &mut ItemReader<'_>) -> bool {
        self.codecs.skip_item(reader)
    }

    #[cfg(feature = "pool")]
    fn begin_item(
        &self,
        scope: &Scope<S, C>,
        item: &ItemScope,
        input: ItemReader<'_>,
        _: &mut Vec<u8>,
        _: usize,
    ) -> BegunItem {
        let mut input = input;
        match self.codecs.decode_item(&mut input) {
            Ok(arguments) => {
                let future = (self.run)(scope.of_item(item, self.takes_context), arguments);
                BegunItem::Running(Box::pin(RunningFuture { future, answer: self.answer }))
            }
            Err(error) => {
                let why = AnyError::from(error).to_string();
                BegunItem::Done(Err(Refusal::Undecodable { why }))
            }
        }
    }

    #[cfg(feature = "pool")]
    fn run_slice(&self, _: &Scope<S, C>, _: &mut SyncRun<'_>) {
        unreachable!("an asynchronous function runs one item at a time");
    }
}

/// The future of a function that is running.
struct RunningFuture<R, T, E: CallFailure> {
    future: BoxFuture<R>,
    answer: Answer<R, T, E>,
}

impl<R, T, E: CallFailure> RunningFuture<R, T, E> {
    fn poll(&mut self, cx: &mut TaskContext<'_>, answering: &mut Answering<'_>) -> Poll<()> {
        let result = ready!(self.future.as_mut().poll(cx));
        answering.result(self.answer, result);
        Poll::Ready(())
    }
}

impl<R, T, E: CallFailure> Running for RunningFuture<R, T, E> {
    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()> {
        self.get_mut().poll(cx, answering)
    }
}

#[cfg(feature = "pool")]
impl<R, T, E: CallFailure> RunningItem for RunningFuture<R, T, E> {
    fn poll_item(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Poll<Result<Outcome, Refusal>> {
        let Self { future, answer } = self.get_mut();
        future.as_mut().poll(cx).map(|result| answer.encode_item(result, out, max))
    }
}

/// A function that is a plain `fn`.
#[doc(hidden)]
pub struct Synchronous<S, C, A: Arguments, R, T, E: CallFailure> {
    info: FunctionInfo,
    codecs: A,
    answer: Answer<R, T, E>,
    run: fn(&Scope<S, C>, A::Owned) -> R,
    takes_context: bool,
}

impl<S, C, A: Arguments, R, T, E: CallFailure> Synchronous<S, C, A, R, T, E> {
    /// Declares that the function takes a `Context`, which is then created for each call.
    #[must_use]
    pub const fn takes_context(mut self) -> Self {
        self.takes_context = true;
        self
    }
}

#[doc(hidden)]
pub const fn synchronous<C: Declares<F>, F, S>(
    run: RunSynchronous<C, F, S>,
) -> SynchronousOf<C, F, S> {
    let (info, codecs, answer) = (C::FUNCTION, C::CODECS, C::ANSWER);
    Synchronous { info, codecs, answer, run, takes_context: false }
}

impl<S, C, A: Arguments, R, T, E: CallFailure> Handle<S, C> for Synchronous<S, C, A, R, T, E> {
    fn info(&self) -> &FunctionInfo {
        &self.info
    }

    fn call(
        &self,
        scope: &Scope<S, C>,
        call: Incoming<'_>,
        _: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let mut call = call;
        let arguments = decode(self.codecs, &mut call, answering)?;
        let result = if self.takes_context {
            (self.run)(&scope.of_call(&mut call, true), arguments)
        } else {
            (self.run)(scope, arguments)
        };
        answering.result(self.answer, result);
        None
    }

    #[cfg(feature = "pool")]
    fn is_synchronous(&self) -> bool {
        true
    }

    #[cfg(feature = "pool")]
    fn skip_item(&self, reader: &mut ItemReader<'_>) -> bool {
        self.codecs.skip_item(reader)
    }

    #[cfg(feature = "pool")]
    fn begin_item(
        &self,
        scope: &Scope<S, C>,
        item: &ItemScope,
        input: ItemReader<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> BegunItem {
        let mut input = input;
        BegunItem::Done(match self.codecs.decode_item(&mut input) {
            Ok(arguments) => {
                let result = (self.run)(&scope.of_item(item, self.takes_context), arguments);
                self.answer.encode_item(result, out, max)
            }
            Err(error) => Err(Refusal::Undecodable { why: AnyError::from(error).to_string() }),
        })
    }

    #[cfg(feature = "pool")]
    fn run_slice(&self, scope: &Scope<S, C>, items: &mut SyncRun<'_>) {
        let scope = &scope.of_item(items.scope(), self.takes_context);
        while let Some(arguments) = items.take(self.codecs) {
            items.put(self.answer, (self.run)(scope, arguments));
        }
    }
}

/// Decodes the arguments of a call. If that fails, refuses the call and returns `None`.
fn decode<A: Arguments>(
    codecs: A,
    call: &mut Incoming<'_>,
    answering: &mut Answering<'_>,
) -> Option<A::Owned> {
    match call.arguments(|body| codecs.decode(body)) {
        Ok(arguments) => Some(arguments),
        Err(error) => {
            answering.refuse(&Refusal::Undecodable { why: AnyError::from(error).to_string() });
            None
        }
    }
}
