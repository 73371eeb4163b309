//! The binary format of the runtime's own messages.
//!
//! Users' values travel as MessagePack through serde, see [`messagepack`](super::messagepack). The
//! runtime's own messages (start messages, events, refusals, failures) use plain functions instead,
//! because serde compiles a copy of the decoder for each type of field.
//!
//! ```text
//! message    version:1 fields..
//! number     little-endian, as wide as its type; `usize` takes 8 bytes
//! bool       0 or 1
//! optional   0, or 1 and the value
//! text       length:4 UTF-8..                also paths and other byte strings, in any encoding
//! list       count:4 items..
//! duration   seconds:8 nanoseconds:4
//! variant    tag:1 fields..
//! ```
//!
//! The decoder checks each length against the bytes that have arrived before it allocates memory.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::sink::{Sink, TooLarge};

/// The version of this format and of all messages in it.
const VERSION: u8 = 1;

/// Encodes one of the runtime's own messages.
pub(crate) fn write_message<T: Field>(message: &T, sink: &mut Sink<'_>) {
    VERSION.write(sink);
    message.write(sink);
}

/// Decodes one of the runtime's own messages, which must take up all of `bytes`.
///
/// # Errors
///
/// The message has another version, is truncated, has trailing bytes, or holds an invalid value.
pub(crate) fn read_message<T: Field>(bytes: &[u8]) -> Result<T, MalformedMessage> {
    let mut unread = Unread { rest: bytes, len: bytes.len() };
    let version = u8::read(&mut unread)?;
    if version != VERSION {
        return Err(unread.malformed(Problem::Version(version)));
    }
    let message = T::read(&mut unread)?;
    if !unread.rest.is_empty() {
        return Err(unread.malformed(Problem::Trailing(unread.rest.len())));
    }
    Ok(message)
}

/// A value in one of the runtime's own messages. [`fields!`] implements it for structs and enums.
pub(crate) trait Field: Sized {
    /// Encodes the value as one byte or more.
    fn write(&self, sink: &mut Sink<'_>);

    /// Decodes a value from the beginning of the unread bytes, and takes these bytes off.
    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage>;
}

/// The bytes of a message that have not been decoded yet.
pub(crate) struct Unread<'a> {
    rest: &'a [u8],
    len: usize,
}

/// Bytes are not a valid message of the expected type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message of {len} bytes: {problem} (at byte {at})")]
pub struct MalformedMessage {
    len: usize,
    at: usize,
    problem: Problem,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum Problem {
    #[error("expected version {VERSION}, found version {0}")]
    Version(u8),
    #[error("expected {0} more bytes, found {1}")]
    Short(usize, usize),
    #[error("unknown variant {tag} of `{of}`")]
    Tag { of: &'static str, tag: u8 },
    #[error("expected UTF-8")]
    Text,
    #[error("value out of range for {0}")]
    Range(&'static str),
    #[error("{0} trailing bytes")]
    Trailing(usize),
}

impl<'a> Unread<'a> {
    fn malformed(&self, problem: Problem) -> MalformedMessage {
        MalformedMessage { len: self.len, at: self.len - self.rest.len(), problem }
    }

    /// Returns the error for a tag that no variant of the enum `of` has.
    pub(crate) fn unknown_tag(&self, of: &'static str, tag: u8) -> MalformedMessage {
        self.malformed(Problem::Tag { of, tag })
    }

    /// Returns the error for a value that the type `of` does not allow.
    pub(crate) fn out_of_range(&self, of: &'static str) -> MalformedMessage {
        self.malformed(Problem::Range(of))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], MalformedMessage> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.malformed(Problem::Short(len, self.rest.len()))),
        }
    }

    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], MalformedMessage> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("`take` returns exactly `N` bytes"))
    }

    /// Decodes a length or a count. It cannot exceed the number of unread bytes, because each item
    /// takes at least one byte.
    fn take_len(&mut self) -> Result<usize, MalformedMessage> {
        let len = u32::from_le_bytes(self.take_array()?) as usize;
        if len > self.rest.len() {
            return Err(self.malformed(Problem::Short(len, self.rest.len())));
        }
        Ok(len)
    }

    fn take_bytes(&mut self) -> Result<Vec<u8>, MalformedMessage> {
        let len = self.take_len()?;
        Ok(self.take(len)?.to_vec())
    }
}

fn put(bytes: &[u8], sink: &mut Sink<'_>) {
    sink.write_all(bytes).expect("writing to a sink cannot fail");
}

fn put_len(len: usize, sink: &mut Sink<'_>) {
    // The limit of a sink is below 4 GiB, so `Sink::finish` reports a longer message as too large.
    u32::try_from(len).unwrap_or(u32::MAX).write(sink);
}

fn put_bytes(bytes: &[u8], sink: &mut Sink<'_>) {
    put_len(bytes.len(), sink);
    put(bytes, sink);
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn write(&self, sink: &mut Sink<'_>) {
                put(&self.to_le_bytes(), sink);
            }

            fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
                Ok(Self::from_le_bytes(unread.take_array()?))
            }
        }
    )*};
}

numbers!(u8 u32 i32 u64);

impl Field for usize {
    fn write(&self, sink: &mut Sink<'_>) {
        (*self as u64).write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let number = u64::read(unread)?;
        number.try_into().map_err(|_| unread.out_of_range("usize"))
    }
}

impl Field for () {
    fn write(&self, sink: &mut Sink<'_>) {
        0_u8.write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        match u8::read(unread)? {
            0 => Ok(()),
            _ => Err(unread.out_of_range("()")),
        }
    }
}

impl Field for bool {
    fn write(&self, sink: &mut Sink<'_>) {
        u8::from(*self).write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        match u8::read(unread)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(unread.out_of_range("bool")),
        }
    }
}

impl Field for Duration {
    fn write(&self, sink: &mut Sink<'_>) {
        self.as_secs().write(sink);
        self.subsec_nanos().write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let (seconds, nanos) = (u64::read(unread)?, u32::read(unread)?);
        if nanos >= 1_000_000_000 {
            return Err(unread.out_of_range("nanoseconds"));
        }
        Ok(Self::new(seconds, nanos))
    }
}

impl Field for String {
    fn write(&self, sink: &mut Sink<'_>) {
        put_bytes(self.as_bytes(), sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let bytes = unread.take_bytes()?;
        Self::from_utf8(bytes).map_err(|_| unread.malformed(Problem::Text))
    }
}

impl Field for Bytes {
    fn write(&self, sink: &mut Sink<'_>) {
        put_bytes(self, sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        unread.take_bytes().map(Self::from)
    }
}

impl Field for OsString {
    fn write(&self, sink: &mut Sink<'_>) {
        put_bytes(self.as_bytes(), sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        unread.take_bytes().map(Self::from_vec)
    }
}

impl Field for PathBuf {
    fn write(&self, sink: &mut Sink<'_>) {
        put_bytes(self.as_os_str().as_bytes(), sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        OsString::read(unread).map(Self::from)
    }
}

impl<T: Field> Field for Option<T> {
    fn write(&self, sink: &mut Sink<'_>) {
        self.is_some().write(sink);
        if let Some(value) = self {
            value.write(sink);
        }
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        if bool::read(unread)? { T::read(unread).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn write(&self, sink: &mut Sink<'_>) {
        put_len(self.len(), sink);
        for item in self {
            item.write(sink);
        }
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        let mut items = Self::new();
        for _ in 0..unread.take_len()? {
            items.push(T::read(unread)?);
        }
        Ok(items)
    }
}

impl<T: Field> Field for Box<T> {
    fn write(&self, sink: &mut Sink<'_>) {
        (**self).write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        T::read(unread).map(Self::new)
    }
}

impl<T: Field> Field for Arc<T> {
    fn write(&self, sink: &mut Sink<'_>) {
        (**self).write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        T::read(unread).map(Self::new)
    }
}

/// Implements [`Field`] for a struct or an enum: field by field, in the order of the macro's input.
///
/// A tag identifies a variant on the wire, and must never be reused for another variant.
macro_rules! fields {
    (struct $type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Field for $type {
            fn write(&self, sink: &mut $crate::wire::Sink<'_>) {
                let Self { $($field),* } = self;
                $($crate::wire::Field::write($field, sink);)*
            }

            fn read(
                unread: &mut $crate::wire::Unread<'_>,
            ) -> Result<Self, $crate::wire::MalformedMessage> {
                Ok(Self { $($field: $crate::wire::Field::read(unread)?),* })
            }
        }
    };
    (newtype $type:ident) => {
        impl $crate::wire::Field for $type {
            fn write(&self, sink: &mut $crate::wire::Sink<'_>) {
                $crate::wire::Field::write(&self.0, sink);
            }

            fn read(
                unread: &mut $crate::wire::Unread<'_>,
            ) -> Result<Self, $crate::wire::MalformedMessage> {
                $crate::wire::Field::read(unread).map(Self)
            }
        }
    };
    (enum $type:ident {
        $($tag:literal => $variant:ident $(($($item:ident),*))? $({ $($field:ident),* })?),* $(,)?
    }) => {
        impl $crate::wire::Field for $type {
            fn write(&self, sink: &mut $crate::wire::Sink<'_>) {
                match self {
                    $(Self::$variant $(($($item),*))? $({ $($field),* })? => {
                        $crate::wire::Field::write(&($tag as u8), sink);
                        $($($crate::wire::Field::write($item, sink);)*)?
                        $($($crate::wire::Field::write($field, sink);)*)?
                    })*
                }
            }

            fn read(
                unread: &mut $crate::wire::Unread<'_>,
            ) -> Result<Self, $crate::wire::MalformedMessage> {
                let tag: u8 = $crate::wire::Field::read(unread)?;
                match tag {
                    $($tag => {
                        $($(let $item = $crate::wire::Field::read(unread)?;)*)?
                        $($(let $field = $crate::wire::Field::read(unread)?;)*)?
                        Ok(Self::$variant $(($($item),*))? $({ $($field),* })?)
                    })*
                    _ => Err(unread.unknown_tag(stringify!($type), tag)),
                }
            }
        }
    };
}

pub(crate) use fields;

// Not in `sink.rs`, because the messages of this file are written to a sink.
fields!(struct TooLarge { size, max });

#[cfg(test)]
mod tests;
