//! The types that travel, and the owned form in which they arrive.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::byte_buffer;
use super::sink::Sink;

/// The type of an argument, as written behind its outermost `&`.
///
/// It says in which owned form the worker holds what the client gave by reference: a `[T]` as
/// `Vec<T>`, a `str` as `String`, a `Path` as `PathBuf`, everything else as itself. It asks for
/// nothing else, so that a type that cannot travel is reported once, by [`Travels`].
pub trait Argument {
    /// What the worker decodes the argument into.
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
/// Every type that implements serde's `Serialize` and `DeserializeOwned`, holds no references and
/// can be sent between threads does.
///
/// Values are encoded as MessagePack. serde buffers the content of internally tagged
/// (`#[serde(tag = "..")]`), untagged and flattened types while it decodes them, and its buffer has
/// limits that these types inherit:
///
/// - It holds no 128-bit integers. A `u128` or `i128` inside such a type fails with
///   [`Undecodable`](crate::CallErrorKind::Undecodable), and the error names this cause. Make the
///   enum externally tagged, which is serde's default, or write the integer as text or as two
///   `u64`s by `#[serde(with = "..")]`.
/// - It claims to be human-readable, which MessagePack is not. A type that writes other data in
///   human-readable formats than elsewhere, such as [`IpAddr`](std::net::IpAddr), fails unless its
///   `Deserialize` accepts both. [`WorkerId`](crate::WorkerId), [`Worker`](crate::Worker) and
///   [`WorkerAddress`](crate::WorkerAddress) do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes",
    label = "cannot travel between processes",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it and for what is in it; \
            it must also be `Send` and hold no references"
)]
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// A [`Message`], or a slice, string or path that a function takes by reference.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes",
    label = "cannot travel between processes",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it and for what is in it; \
            it must also be `Send` and hold no references"
)]
pub trait Travels: Argument<Owned: Message> + Serialize {
    /// Writes the value as a buffer if it is nothing but bytes, and says whether it was.
    #[doc(hidden)]
    fn write_bytes(&self, _: &mut Sink<'_>) -> bool {
        false
    }
}

#[diagnostic::do_not_recommend]
impl<T: Message> Travels for T {
    fn write_bytes(&self, sink: &mut Sink<'_>) -> bool {
        byte_buffer::is_bytes::<T>() && byte_buffer::write_value(self, sink)
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
