//! Bytes that travel in one piece instead of one by one.
//!
//! They do when they are a whole argument, result or element of a stream. Inside other values they
//! are what serde makes of them, because what serde buffers (`flatten`, `untagged`) takes no buffer
//! for a list.

use std::any::{Any, TypeId};
use std::fmt;
use std::io::Write;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::value::SeqDeserializer;
use serde::de::{Error, SeqAccess, Visitor};

use super::sink::Sink;

/// Calls a macro with all lengths of arrays that serde knows.
macro_rules! lengths {
    ($then:ident!($($with:tt)*)) => {
        $then!($($with)* 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
            28 29 30 31 32)
    };
}

/// Writes a value if it is nothing but bytes.
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

/// Writes a slice if it is one of bytes.
pub(super) fn write_slice<T: Any>(slice: &[T], sink: &mut Sink<'_>) -> bool {
    if TypeId::of::<T>() != TypeId::of::<u8>() {
        return false;
    }
    // Elements of a known type: the compiler makes a plain copy of it.
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
        sink.write_all(bytes).expect("a sink takes everything");
    }
}

/// Writes the header of a MessagePack buffer.
fn write_len(len: usize, sink: &mut Sink<'_>) {
    let [.., b3, b2, b1, b0] = len.to_be_bytes();
    let written = match len {
        0..=0xff => sink.write_all(&[0xc4, b0]),
        0x100..=0xffff => sink.write_all(&[0xc5, b1, b0]),
        // What is longer than 4 GiB is too large, as the sink finds out.
        _ => sink.write_all(&[0xc6, b3, b2, b1, b0]),
    };
    written.expect("a sink takes everything");
}

/// Says whether values of a type are nothing but bytes. The compiler knows the answer.
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

/// Returns the same value, of which it is known that it is a `T`.
pub(super) fn cast<T: 'static, V: 'static>(value: V) -> Option<T> {
    let mut value = Some(value);
    let value: &mut dyn Any = &mut value;
    value.downcast_mut::<Option<T>>().and_then(Option::take)
}

/// Bytes as they were found.
pub(super) enum AnyBytes<'a> {
    Part(&'a [u8]),
    List(Vec<u8>),
}

impl AnyBytes<'_> {
    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Part(bytes) => bytes.to_vec(),
            Self::List(bytes) => bytes,
        }
    }
}

/// Takes a buffer of bytes in one piece; a list of numbers will do too.
pub(super) fn deserialize<'a, D: Deserializer<'a>>(
    deserializer: D,
) -> Result<AnyBytes<'a>, D::Error> {
    deserializer.deserialize_bytes(InOnePiece)
}

struct InOnePiece;

impl<'a> Visitor<'a> for InOnePiece {
    type Value = AnyBytes<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a buffer of bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<AnyBytes<'a>, E> {
        Ok(AnyBytes::Part(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AnyBytes<'a>, E> {
        Ok(AnyBytes::List(bytes.to_vec()))
    }

    // Whoever does not know these types writes them as lists.
    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<AnyBytes<'a>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(AnyBytes::List(bytes))
    }
}

/// Returns bytes as a list, for types that are made of one.
pub(super) fn elements<E: Error>(bytes: &[u8]) -> impl for<'de> Deserializer<'de, Error = E> {
    SeqDeserializer::new(bytes.iter().copied())
}
