//! The types whose values travel, and the owned form that a worker decodes them into.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::byte_buffer;
#[cfg(feature = "pool")]
use super::item_number;
use super::sink::Sink;

/// The type of an argument, without its outermost `&`.
///
/// [`Owned`](Self::Owned) is the form in which the worker holds an argument that the client passes
/// by reference: `Vec<T>` for `[T]`, `String` for `str`, `PathBuf` for `Path`, and the type itself
/// for all others. The trait has no other bound, so that the compiler reports a type that cannot
/// travel once, by [`Travels`].
pub trait Argument {
    /// The type that the worker decodes the argument into.
    type Owned: Borrow<Self>;
}

impl<T> Argument for T {
    type Owned = T;
}

impl<T> Argument for [T] {
    type Owned = Vec<T>;
}

impl Argument for str {
    type Owned = String;
}

impl Argument for Path {
    type Owned = PathBuf;
}

/// A type whose values can travel between processes.
///
/// Every type that is `Serialize + DeserializeOwned + Send + 'static` implements it. It cannot be
/// implemented by hand.
///
/// ```
/// use rpc_parallel::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Quote {
///     symbol: String,
///     cents: u64,
/// }
///
/// fn assert_message<T: Message>() {}
/// assert_message::<Vec<Quote>>();
/// ```
///
/// # Encoding
///
/// Values are encoded as MessagePack, structs as maps. serde buffers the content of internally
/// tagged (`#[serde(tag = "..")]`), untagged and flattened types while it decodes them. The limits
/// of its buffer apply to these types:
///
/// - It holds no 128-bit integers. A `u128` or `i128` inside such a type fails with
///   [`Undecodable`](crate::CallErrorKind::Undecodable), and the error names this cause. Make the
///   enum externally tagged, which is serde's default, or write the integer as text or as two
///   `u64`s by `#[serde(with = "..")]`.
/// - It reports itself as human-readable, which MessagePack is not. A type whose human-readable
///   form differs from its binary form, such as [`IpAddr`](std::net::IpAddr), fails to decode
///   unless its `Deserialize` accepts both forms. [`WorkerId`](crate::WorkerId),
///   [`Worker`](crate::Worker) and [`WorkerAddress`](crate::WorkerAddress) accept both.
///
/// `Some(None)`, `Some(())` and any other `Some` whose content is encoded as nil fail with
/// [`Unencodable`](crate::CallErrorKind::Unencodable), because they would be decoded as `None`. So
/// does a value that is nested deeper than 256 levels.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes",
    label = "cannot travel between processes",
    note = "derive `serde::Serialize` and `serde::Deserialize` for the type and for the types in it; \
            it must also be `Send` and hold no references"
)]
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// A [`Message`], or a slice, `str` or `Path` that a function takes by reference.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes",
    label = "cannot travel between processes",
    note = "derive `serde::Serialize` and `serde::Deserialize` for the type and for the types in it; \
            it must also be `Send` and hold no references"
)]
pub trait Travels: Argument<Owned: Message> + Serialize {
    /// Writes the value as a MessagePack byte buffer if it consists of bytes only. Returns whether
    /// it did.
    #[doc(hidden)]
    fn write_bytes(&self, _: &mut Sink<'_>) -> bool {
        false
    }

    /// Appends the value with a fixed width if it is a number. Returns whether it did.
    #[cfg(feature = "pool")]
    #[doc(hidden)]
    #[inline(always)]
    fn write_number(&self, _: &mut Vec<u8>) -> bool {
        false
    }
}

#[diagnostic::do_not_recommend]
impl<T: Message> Travels for T {
    fn write_bytes(&self, sink: &mut Sink<'_>) -> bool {
        byte_buffer::is_bytes::<T>() && byte_buffer::write_value(self, sink)
    }

    #[cfg(feature = "pool")]
    #[inline(always)]
    fn write_number(&self, out: &mut Vec<u8>) -> bool {
        item_number::write_number(self, out)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Message> Travels for [T] {
    fn write_bytes(&self, sink: &mut Sink<'_>) -> bool {
        byte_buffer::write_slice(self, sink)
    }
}

#[diagnostic::do_not_recommend]
impl Travels for str {}

#[diagnostic::do_not_recommend]
impl Travels for Path {}
