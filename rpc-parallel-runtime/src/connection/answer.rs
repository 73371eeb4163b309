//! The conversion of a function's result into an answer, and of the answer into the caller's result.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[cfg(feature = "pool")]
use super::any_error::AnyError;
use super::error::CallError;
use crate::wire::{Codec, Message, codec};
#[cfg(feature = "pool")]
use crate::wire::{ItemError, Outcome, Refusal};

/// Why a call of a function that returns `Result<T, E>` gave no `T`.
///
/// `Display` and `Debug` are those of the error inside.
#[derive(Clone, PartialEq)]
pub enum FunctionError<E> {
    /// The function ran and returned this error.
    Function(E),
    /// The call failed: there is no result of the function.
    Call(CallError),
}

impl<E> FunctionError<E> {
    /// Returns the error of the call, if the call failed; `None` if the function returned the error.
    ///
    /// [`CallError::execution`] tells whether the call may be repeated.
    #[must_use]
    pub fn call_error(&self) -> Option<&CallError> {
        match self {
            Self::Function(_) => None,
            Self::Call(error) => Some(error),
        }
    }

    /// Returns the error that the function returned.
    ///
    /// # Errors
    ///
    /// The call failed. This is its error.
    pub fn into_function(self) -> Result<E, CallError> {
        match self {
            Self::Function(error) => Ok(error),
            Self::Call(error) => Err(error),
        }
    }
}

impl<E> From<CallError> for FunctionError<E> {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl<E: fmt::Debug> fmt::Debug for FunctionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FunctionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for FunctionError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Function(_) => None,
            Self::Call(error) => error.source(),
        }
    }
}

/// The error type of a call: [`CallError`] or [`FunctionError`].
#[doc(hidden)]
pub trait CallFailure: From<CallError> {
    /// The error that the function returns.
    type Function;

    fn from_function(error: Self::Function) -> Self;
}

impl CallFailure for CallError {
    type Function = Never;

    fn from_function(error: Never) -> Self {
        match error {}
    }
}

/// The error type of a function that does not return a `Result`. It has no values.
///
/// In contrast to [`Infallible`](std::convert::Infallible) it implements serde's traits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("expected a function that returns no error, found an error"))
    }
}

impl<E> CallFailure for FunctionError<E> {
    type Function = E;

    fn from_function(error: E) -> Self {
        Self::Function(error)
    }
}

/// `Result`, also under the name of an alias.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`",
    label = "is not a `Result`",
    note = "`#[worker(result)]` is for aliases of `Result` that are not called `Result`"
)]
pub trait IsResult {
    type Ok;
    type Err;

    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> IsResult for Result<T, E> {
    type Ok = T;
    type Err = E;

    fn into_result(self) -> Self {
        self
    }
}

/// An error type of a worker function that returns a `Result`: a [`Message`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "error type `{Self}` cannot travel between processes",
    label = "cannot travel between processes",
    note = "return `Result<_, rpc_parallel::AnyError>`: `?` turns errors of other crates into an \
            `AnyError`, which keeps their texts and causes",
    note = "an error type of your own must implement `serde::Serialize` and `serde::Deserialize`, \
            be `Send` and hold no references"
)]
pub trait TravelsAsError: Message {}

#[diagnostic::do_not_recommend]
impl<T: Message> TravelsAsError for T {}

/// Makes the codec of a function's error type.
#[doc(hidden)]
#[must_use]
pub const fn error_codec<E: TravelsAsError>() -> Codec<E> {
    codec()
}

/// Converts between the return type of a function (`R`) and the result of its call (`T` or `E`).
#[doc(hidden)]
pub struct Answer<R, T, E: CallFailure> {
    pub(super) split: fn(R) -> Result<T, E::Function>,
    pub(crate) value: Codec<T>,
    pub(crate) error: Option<Codec<E::Function>>,
}

impl<R, T, E: CallFailure> Clone for Answer<R, T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, T, E: CallFailure> Copy for Answer<R, T, E> {}

impl<R, T, E: CallFailure> Answer<R, T, E> {
    /// Returns the same conversion, with the one error type that holds both kinds of errors.
    #[cfg(feature = "pool")]
    pub(crate) fn with_function_error(self) -> Answer<R, T, FunctionError<E::Function>> {
        let Self { split, value, error } = self;
        Answer { split, value, error }
    }
}

#[cfg(feature = "pool")]
impl<R, T, E: CallFailure> Answer<R, T, E> {
    /// Appends the result of a function as an item of a map, up to `max` bytes.
    ///
    /// # Errors
    ///
    /// The result cannot be sent. Nothing was appended.
    #[inline]
    pub(crate) fn encode_item(
        self,
        result: R,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<Outcome, Refusal> {
        let encoded = match ((self.split)(result), self.error) {
            (Ok(value), _) => (self.value.encode_item)(&value, out, max).map(|()| Outcome::Value),
            (Err(error), Some(codec)) => {
                (codec.encode_item)(&error, out, max).map(|()| Outcome::Error)
            }
            (Err(_), None) => unreachable!("only a `Result` has an error"),
        };
        encoded.map_err(unsendable)
    }
}

#[cfg(feature = "pool")]
#[cold]
fn unsendable(error: ItemError) -> Refusal {
    match error {
        ItemError::Unencodable(error) => {
            Refusal::Unencodable { why: AnyError::from(error).to_string() }
        }
        ItemError::TooLarge(it) => Refusal::TooLarge { size: it.size, max: it.max },
    }
}

/// Converts the result of a function that does not return a `Result`.
#[doc(hidden)]
#[must_use]
pub const fn plain<R>(value: Codec<R>) -> Answer<R, R, CallError> {
    Answer { split: Ok, value, error: None }
}

/// Converts the result of a function that returns a `Result`.
#[doc(hidden)]
#[must_use]
pub const fn fallible<R: IsResult>(
    value: Codec<R::Ok>,
    error: Codec<R::Err>,
) -> Answer<R, R::Ok, FunctionError<R::Err>> {
    Answer { split: R::into_result, value, error: Some(error) }
}
