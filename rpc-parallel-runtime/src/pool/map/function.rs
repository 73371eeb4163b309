//! The functions that a map can run.

use crate::connection::CallError;
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

/// A function that combines two results of type `T` into one, for a reduction.
///
/// It is implemented for the functions with two arguments of type `T` that return a `T`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not combine two values of type `{T}`",
    label = "not a function of two `{T}` that returns a `{T}`",
    note = "the second function of a reduction takes two results of the first one by value, and \
            returns such a result, not in a `Result`"
)]
pub trait Combine<C, T>:
    MapFunction<
        C,
        Client: Declares<
            Self::Name,
            Output = T,
            Error = CallError,
            Codecs: Arguments<Input = (T, T)>,
        >,
    >
{
}

#[diagnostic::do_not_recommend]
impl<C, T, G> Combine<C, T> for G where
    G: MapFunction<
            C,
            Client: Declares<
                Self::Name,
                Output = T,
                Error = CallError,
                Codecs: Arguments<Input = (T, T)>,
            >,
        >
{
}

/// The item type of a function: its argument, or the tuple of its arguments.
pub(crate) type Input<C, F> = <<C as Declares<F>>::Codecs as Arguments>::Input;

/// The type of a function's result.
pub(crate) type Output<C, F> = <C as Declares<F>>::Output;

pub(crate) use crate::worker::FunctionErrorOf;
