//! Values as MessagePack. No other file names `rmp_serde`.
//!
//! Structs travel as maps: the compact form, as arrays, silently corrupts a struct of which serde
//! skips a field. Whatever attributes a type carries, its values arrive as they left.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::io::Write;

use rmp_serde::config::BytesMode;
use rmp_serde::decode::ReadRefReader;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Serialize};

use super::argument::{Argument, Travels};
use super::sink::Sink;

/// How deep a message may be nested. Each level costs stack on the side that decodes, where
/// running out of it would end the process.
const MAX_DEPTH: usize = 256;

/// A value could not be turned into bytes.
#[derive(Debug, thiserror::Error)]
#[error("encode a `{from}` as MessagePack")]
pub struct EncodeError {
    from: &'static str,
    source: rmp_serde::encode::Error,
}

/// Bytes could not be turned back into a value.
#[derive(Debug, thiserror::Error)]
#[error("decode {len} bytes of MessagePack as `{into}`")]
pub struct DecodeError {
    len: usize,
    into: &'static str,
    source: rmp_serde::decode::Error,
}

/// Encodes one value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
    encode_in(BytesMode::Normal, value, sink)
}

fn encode_in<T: Serialize + ?Sized>(
    bytes: BytesMode,
    value: &T,
    sink: &mut Sink<'_>,
) -> Result<(), EncodeError> {
    let mut serializer = rmp_serde::Serializer::new(sink).with_struct_map().with_bytes(bytes);
    value
        .serialize(&mut serializer)
        .map_err(|source| EncodeError { from: type_name::<T>(), source })
}

/// Decodes one value, which must be all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.next()?;
    decoder.finish::<T>()?;
    Ok(value)
}

/// Decodes the values of a message one after the other.
pub struct Decoder<'a> {
    deserializer: rmp_serde::Deserializer<ReadRefReader<'a, [u8]>>,
    len: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        deserializer.set_max_depth(MAX_DEPTH);
        Self { deserializer, len: bytes.len() }
    }

    /// Decodes the next value.
    pub(crate) fn next<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        let len = self.len;
        T::deserialize(&mut self.deserializer)
            .map_err(|source| DecodeError { len, into: type_name::<T>(), source })
    }

    /// Checks that nothing is left.
    pub(crate) fn finish<T: ?Sized>(mut self) -> Result<(), DecodeError> {
        // A `()` is one byte and holds nothing: only at the very end is there no first byte of it.
        match <()>::deserialize(&mut self.deserializer) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(()),
            Ok(()) | Err(_) => Err(DecodeError {
                len: self.len,
                into: type_name::<T>(),
                source: rmp_serde::decode::Error::Syntax("there are bytes behind its end".into()),
            }),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, DecodeError> {
        let len = self.len;
        serde::Deserializer::deserialize_byte_buf(&mut self.deserializer, Bytes)
            .map_err(|source| DecodeError { len, into: type_name::<Vec<u8>>(), source })
    }
}

/// Begins a tuple of so many values: the header of a MessagePack array.
pub(crate) fn write_tuple_len(len: u8, sink: &mut Sink<'_>) {
    let written = match len {
        0..16 => sink.write_all(&[0x90 | len]),
        16.. => sink.write_all(&[0xdc, 0, len]),
    };
    written.expect("a sink takes everything");
}

/// Takes the header of a tuple of so many values away.
pub(crate) fn strip_tuple_len(len: u8, bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let stripped = match (len, bytes) {
        (0..16, [header, rest @ ..]) if *header == 0x90 | len => Some(rest),
        (16.., [0xdc, 0, header, rest @ ..]) if *header == len => Some(rest),
        _ => None,
    };
    stripped.ok_or_else(|| DecodeError {
        len: bytes.len(),
        into: "arguments",
        source: rmp_serde::decode::Error::LengthMismatch(len.into()),
    })
}

/// Takes a buffer of bytes in one piece.
struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a buffer of bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// Encodes and decodes the values of one type.
///
/// It is made once, by [`codec`], where the type is written; whoever holds one needs no bound.
pub struct Codec<A: ?Sized + Argument> {
    pub(crate) encode: fn(&A, &mut Sink<'_>) -> Result<(), EncodeError>,
    pub(crate) decode: for<'a> fn(&mut Decoder<'a>) -> Result<A::Owned, DecodeError>,
}

impl<A: ?Sized + Argument> Clone for Codec<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: ?Sized + Argument> Copy for Codec<A> {}

/// Makes the codec of a type: the one place that asks whether its values can travel.
#[must_use]
pub const fn codec<A: ?Sized + Travels>() -> Codec<A> {
    Codec { encode: encode_argument::<A>, decode: decode_owned::<A::Owned> }
}

/// Says whether values of type `T` are nothing but a list of bytes.
///
/// Such a list travels as a buffer when it is a whole argument or result. Inside other values it
/// stays a list, because what serde buffers (`flatten`, `untagged`) takes no buffer for a list.
fn is_bytes<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Vec<u8>>()
}

fn encode_argument<A: ?Sized + Travels>(value: &A, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
    let bytes = if is_bytes::<A::Owned>() { BytesMode::ForceIterables } else { BytesMode::Normal };
    encode_in(bytes, value, sink)
}

fn decode_owned<T: DeserializeOwned + 'static>(decoder: &mut Decoder<'_>) -> Result<T, DecodeError> {
    if !is_bytes::<T>() {
        return decoder.next();
    }
    let mut bytes = Some(decoder.bytes()?);
    let bytes: &mut dyn Any = &mut bytes;
    let bytes = bytes.downcast_mut::<Option<T>>().and_then(Option::take);
    Ok(bytes.expect("`T` has just been seen to be `Vec<u8>`"))
}
