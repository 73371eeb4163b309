//! From a call's bytes to the user's function, and from its result to bytes.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use super::arguments::Arguments;
use super::context::Context;
use super::declares::{Declares, WorkerClient};
use crate::connection::{Answer, Answering, AnyError, CallFailure, Running};
use crate::wire::{FunctionInfo, Refusal};

/// What a function is called with beside its arguments.
#[doc(hidden)]
pub struct Scope<S, C>(Arc<(Arc<S>, Context<C>)>);

impl<S, C> Scope<S, C> {
    pub(super) fn new(state: Arc<S>, context: Context<C>) -> Self {
        Self(Arc::new((state, context)))
    }

    pub fn state(&self) -> &S {
        &self.0.0
    }

    pub fn context(&self) -> &Context<C> {
        &self.0.1
    }
}

impl<S, C> Clone for Scope<S, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// One function of a worker type.
#[doc(hidden)]
pub trait Handle<S, C>: Sync {
    fn info(&self) -> FunctionInfo;

    fn call(
        &self,
        scope: &Scope<S, C>,
        arguments: &[u8],
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>>;
}

/// The functions of a worker type, in the order of its trait.
#[doc(hidden)]
pub type Table<S, C> = &'static [&'static dyn Handle<S, <C as WorkerClient>::Connection>];

/// What `#[worker]` on a trait knows for every type that implements it.
#[doc(hidden)]
pub trait Dispatch<S: 'static>: WorkerClient {
    const TABLE: Table<S, Self>;
}

/// A function that is an `async fn`.
#[doc(hidden)]
pub struct Asynchronous<C, F, S, R, Fut> {
    run: R,
    of: PhantomData<fn(C, F, S) -> Fut>,
}

#[doc(hidden)]
pub const fn asynchronous<C, F, S, R, Fut>(run: R) -> Asynchronous<C, F, S, R, Fut>
where
    C: Declares<F>,
    R: Fn(Scope<S, C::Connection>, <C::Codecs as Arguments>::Owned) -> Fut + Sync,
    Fut: Future<Output = C::Returns> + Send + 'static,
{
    Asynchronous { run, of: PhantomData }
}

impl<C, F, S, R, Fut> Handle<S, C::Connection> for Asynchronous<C, F, S, R, Fut>
where
    C: Declares<F, Returns: 'static, Output: 'static, Error: 'static>,
    R: Fn(Scope<S, C::Connection>, <C::Codecs as Arguments>::Owned) -> Fut + Sync,
    Fut: Future<Output = C::Returns> + Send + 'static,
{
    fn info(&self) -> FunctionInfo {
        C::FUNCTION
    }

    fn call(
        &self,
        scope: &Scope<S, C::Connection>,
        arguments: &[u8],
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let arguments = decode::<C, F>(arguments, answering)?;
        let future = (self.run)(scope.clone(), arguments);
        Some(Box::pin(RunningFuture { future, answer: C::ANSWER }))
    }
}

pin_project_lite::pin_project! {
    /// A function that runs.
    struct RunningFuture<Fut, R, T, E: CallFailure> {
        #[pin]
        future: Fut,
        answer: Answer<R, T, E>,
    }
}

impl<Fut, R, T, E> Running for RunningFuture<Fut, R, T, E>
where
    Fut: Future<Output = R> + Send,
    E: CallFailure,
{
    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        answering.result(*this.answer, result);
        Poll::Ready(())
    }
}

/// A function that is a plain `fn`.
#[doc(hidden)]
pub struct Synchronous<C, F, S, R> {
    run: R,
    of: PhantomData<fn(C, F, S)>,
}

#[doc(hidden)]
pub const fn synchronous<C, F, S, R>(run: R) -> Synchronous<C, F, S, R>
where
    C: Declares<F>,
    R: Fn(&Scope<S, C::Connection>, <C::Codecs as Arguments>::Owned) -> C::Returns + Sync,
{
    Synchronous { run, of: PhantomData }
}

impl<C, F, S, R> Handle<S, C::Connection> for Synchronous<C, F, S, R>
where
    C: Declares<F>,
    R: Fn(&Scope<S, C::Connection>, <C::Codecs as Arguments>::Owned) -> C::Returns + Sync,
{
    fn info(&self) -> FunctionInfo {
        C::FUNCTION
    }

    fn call(
        &self,
        scope: &Scope<S, C::Connection>,
        arguments: &[u8],
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let arguments = decode::<C, F>(arguments, answering)?;
        answering.result(C::ANSWER, (self.run)(scope, arguments));
        None
    }
}

/// Decodes the arguments of a call, or answers that it cannot.
fn decode<C: Declares<F>, F>(
    arguments: &[u8],
    answering: &mut Answering<'_>,
) -> Option<<C::Codecs as Arguments>::Owned> {
    match C::CODECS.decode(arguments) {
        Ok(arguments) => Some(arguments),
        Err(error) => {
            answering.refuse(&Refusal::Undecodable { why: AnyError::from(error).to_string() });
            None
        }
    }
}
