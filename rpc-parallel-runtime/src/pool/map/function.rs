//! The functions that a map can run.

use crate::pool::process::ProcessFunction;
use crate::worker::{Arguments, DeclaredFunction, Declares, ProcessClient, WorkerClient};

/// A function that a [`Pool`](crate::pool::Pool) with clients of type `C` can run on many items.
///
/// It is implemented for the function constants of the client, such as `RendererClient::RENDER`, and
/// for the `FUNCTION` constants of [`#[process]`](crate::process) functions, which every pool runs.
pub trait MapFunction<C>: Copy + Send + 'static {
    /// The client that declares the function.
    #[doc(hidden)]
    type Client: Declares<Self::Name>;

    /// The type that identifies the function.
    #[doc(hidden)]
    type Name: 'static;
}

impl<C: Declares<F>, F: 'static> MapFunction<C> for DeclaredFunction<C, F> {
    type Client = C;
    type Name = F;
}

impl<C: WorkerClient, F: 'static> MapFunction<C> for ProcessFunction<F>
where
    ProcessClient: Declares<F>,
{
    type Client = ProcessClient;
    type Name = F;
}

/// The item type of a function: its argument, or the tuple of its arguments.
pub(crate) type Input<C, F> = <<C as Declares<F>>::Codecs as Arguments>::Input;

/// The type of a function's result.
pub(crate) type Output<C, F> = <C as Declares<F>>::Output;

pub(crate) use crate::worker::FunctionErrorOf;
