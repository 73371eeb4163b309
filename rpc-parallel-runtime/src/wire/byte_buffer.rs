//! Byte sequences (`Vec<u8>`, `[u8]`, `[u8; N]`, `Bytes`) as MessagePack byte buffers.
//!
//! serde alone would encode them as lists of numbers. An argument, a result or an element of a
//! stream that is a byte sequence travels as a buffer. Inside other values serde's encoding
//! applies, because types that serde buffers (`flatten`, `untagged`) do not accept a byte buffer
//! for a list.

use std::any::{Any, TypeId};
use std::fmt;
use std::io::Write;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::value::SeqDeserializer;
use serde::de::{Error, SeqAccess, Visitor};

use super::sink::Sink;

/// Calls a macro with all lengths of arrays for which serde has implementations.
macro_rules! lengths {
    ($then:ident!($($with:tt)*)) => {
        $then!($($with)* 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
            28 29 30 31 32)
    };
}

/// Writes a value if it is a byte sequence. Returns whether it is.
pub(super) fn write_value(value: &dyn Any, sink: &mut Sink<'_>) -> bool {
    if let Some(shared) = value.downcast_ref::<Bytes>() {
        write_len(shared.len(), sink);
        sink.write_shared(shared.clone());
        return true;
    }
    if let Some(list) = value.downcast_ref::<Vec<u8>>() {
        write(list, sink);
        return true;
    }
    macro_rules! arrays {
        ($($len:literal)*) => {$(
            if let Some(array) = value.downcast_ref::<[u8; $len]>() {
                write(array, sink);
                return true;
            }
        )*};
    }
    lengths!(arrays!());
    false
}

/// Writes a slice if its elements are bytes. Returns whether they are.
pub(super) fn write_slice<T: Any>(slice: &[T], sink: &mut Sink<'_>) -> bool {
    if TypeId::of::<T>() != TypeId::of::<u8>() {
        return false;
    }
    // The compiler turns this into a plain copy.
    let bytes = slice.iter().map(|it| (it as &dyn Any).downcast_ref::<u8>().map_or(0, |it| *it));
    write_len(slice.len(), sink);
    if sink.splices(slice.len()) {
        sink.write_shared(bytes.collect::<Vec<u8>>().into());
    } else {
        sink.extend(bytes);
    }
    true
}

pub(super) fn write(bytes: &[u8], sink: &mut Sink<'_>) {
    write_len(bytes.len(), sink);
    if sink.splices(bytes.len()) {
        sink.write_shared(Bytes::copy_from_slice(bytes));
    } else {
        sink.write_all(bytes).expect("writing to a sink cannot fail");
    }
}

/// Writes the header of a MessagePack buffer.
fn write_len(len: usize, sink: &mut Sink<'_>) {
    let [.., b3, b2, b1, b0] = len.to_be_bytes();
    let written = match len {
        0..=0xff => sink.write_all(&[0xc4, b0]),
        0x100..=0xffff => sink.write_all(&[0xc5, b1, b0]),
        // The header cannot hold a length of 4 GiB or more. The sink reports that as too large.
        _ => sink.write_all(&[0xc6, b3, b2, b1, b0]),
    };
    written.expect("writing to a sink cannot fail");
}

/// Returns whether a type is a byte sequence. The compiler evaluates this to a constant.
pub(super) fn is_bytes<T: 'static>() -> bool {
    is_shared::<T>() || is_list::<T>() || is_array::<T>()
}

pub(super) fn is_shared<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Bytes>()
}

pub(super) fn is_list<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Vec<u8>>()
}

pub(super) fn is_array<T: 'static>() -> bool {
    macro_rules! any_of {
        ($($len:literal)*) => { $(TypeId::of::<T>() == TypeId::of::<[u8; $len]>())||* };
    }
    lengths!(any_of!())
}

/// Returns the value as a `T`, which is the same type as `V`; `None` if it is another type.
pub(super) fn cast<T: 'static, V: 'static>(value: V) -> Option<T> {
    let mut value = Some(value);
    let value: &mut dyn Any = &mut value;
    value.downcast_mut::<Option<T>>().and_then(Option::take)
}

/// A decoded byte sequence: borrowed from the message, or collected from a list of numbers.
pub(super) enum AnyBytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl AnyBytes<'_> {
    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Decodes a byte buffer, or a list of numbers below 256.
pub(super) fn deserialize<'a, D: Deserializer<'a>>(
    deserializer: D,
) -> Result<AnyBytes<'a>, D::Error> {
    deserializer.deserialize_bytes(BytesVisitor)
}

struct BytesVisitor;

impl<'a> Visitor<'a> for BytesVisitor {
    type Value = AnyBytes<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a buffer of bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<AnyBytes<'a>, E> {
        Ok(AnyBytes::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AnyBytes<'a>, E> {
        Ok(AnyBytes::Owned(bytes.to_vec()))
    }

    // Peers without this special case write byte sequences as lists.
    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<AnyBytes<'a>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(AnyBytes::Owned(bytes))
    }
}

/// Returns a deserializer of bytes as a list, for types that deserialize from lists.
pub(super) fn elements<E: Error>(bytes: &[u8]) -> impl for<'de> Deserializer<'de, Error = E> {
    SeqDeserializer::new(bytes.iter().copied())
}
