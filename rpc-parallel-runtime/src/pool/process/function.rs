//! Process functions as values.

use std::fmt;
use std::marker::PhantomData;

use crate::connection::Call;
use crate::wire::FunctionInfo;
use crate::worker::{Arguments, Declares, Function, ProcessClient, call};

/// A function with `#[process]`, as a value. The type beside it has one constant of this type:
/// `score::FUNCTION`.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// assert_eq!(square::FUNCTION.info().name(), "square");
///
/// # async fn example() -> Result<(), AnyError> {
/// let process = square::reuse().await?;
/// assert_eq!(square::FUNCTION.call(process.process(), &3).await?, 9);
/// # Ok(())
/// # }
/// ```
pub struct ProcessFunction<F>(PhantomData<fn(F)>);

impl<F> ProcessFunction<F> {
    #[doc(hidden)]
    pub const NEW: Self = Self(PhantomData);
}

impl<F> ProcessFunction<F>
where
    ProcessClient: Declares<F>,
{
    /// Returns the id, name, signature and source location of the function.
    #[must_use]
    pub fn info(self) -> FunctionInfo {
        <ProcessClient as Declares<F>>::FUNCTION
    }
}

impl<F> Clone for ProcessFunction<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for ProcessFunction<F> {}

impl<F> fmt::Debug for ProcessFunction<F>
where
    ProcessClient: Declares<F>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProcessFunction").field(&self.info().signature()).finish()
    }
}

impl<F> Function for ProcessFunction<F>
where
    ProcessClient: Declares<F>,
{
    type Client = ProcessClient;
    type Input = <<ProcessClient as Declares<F>>::Codecs as Arguments>::Input;
    type Output = <ProcessClient as Declares<F>>::Output;
    type Error = <ProcessClient as Declares<F>>::Error;
    type Call = Call<Self::Output, Self::Error>;

    fn call(&self, client: &ProcessClient, input: &Self::Input) -> Self::Call {
        call::<ProcessClient, F>(client, <ProcessClient as Declares<F>>::Codecs::borrow(input))
    }
}
