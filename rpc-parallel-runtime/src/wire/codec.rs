//! The functions that encode and decode the values of one type: within a message, and as an item of
//! a map.

use std::any::type_name;

#[cfg(feature = "pool")]
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::argument::{Argument, Travels};
#[cfg(feature = "pool")]
use super::body::Body;
use super::byte_buffer;
use super::field::{Field, read_message, write_message};
#[cfg(feature = "pool")]
use super::item::{ItemError, ItemReader, decode_item, encode_item, encode_value, skip_item};
use super::messagepack::{DecodeError, Decoder, EncodeError, encode};
use super::sink::Sink;

/// Functions that encode and decode the values of one type.
///
/// Generated code creates it with [`codec`] where the user has written the type. Code that takes a
/// codec needs no trait bound.
pub struct Codec<A: ?Sized + Argument> {
    pub(crate) encode: fn(&A, &mut Sink<'_>) -> Result<(), EncodeError>,
    pub(crate) decode: for<'a> fn(&mut Decoder<'a>) -> Result<A::Owned, DecodeError>,
    /// Appends the value as an item of a map, up to a limit in bytes.
    #[cfg(feature = "pool")]
    pub(crate) encode_item: fn(&A, &mut Vec<u8>, usize) -> Result<(), ItemError>,
    /// Decodes an item. After an error the reader is anywhere in the item.
    #[cfg(feature = "pool")]
    pub(crate) decode_item: for<'a> fn(&mut ItemReader<'a>) -> Result<A::Owned, DecodeError>,
    /// Skips an item. Returns whether it is complete.
    #[cfg(feature = "pool")]
    pub(crate) skip_item: for<'a> fn(&mut ItemReader<'a>) -> bool,
}

impl<A: ?Sized + Argument> Clone for Codec<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: ?Sized + Argument> Copy for Codec<A> {}

/// Creates the codec of a type. Only this function requires that its values can travel.
#[must_use]
pub const fn codec<A: ?Sized + Travels>() -> Codec<A> {
    Codec {
        encode: encode_argument::<A>,
        decode: decode_owned::<A::Owned>,
        #[cfg(feature = "pool")]
        encode_item: |value, out, max| encode_item(value, out, max, encode_argument),
        #[cfg(feature = "pool")]
        decode_item: |reader| decode_item(reader, decode_owned),
        #[cfg(feature = "pool")]
        skip_item: skip_item::<A::Owned>,
    }
}

/// Creates the codec of one of the runtime's own types, whose values are encoded by [`Field`] and
/// travel as a byte buffer among users' values.
pub(crate) const fn own_codec<T: Field + 'static>() -> Codec<T> {
    Codec {
        encode: encode_own,
        decode: decode_own,
        #[cfg(feature = "pool")]
        encode_item: |value, out, max| encode_value(out, max, |sink| encode_own(value, sink)),
        #[cfg(feature = "pool")]
        decode_item: |reader| decode_item(reader, decode_own),
        #[cfg(feature = "pool")]
        skip_item: skip_item::<T>,
    }
}

/// Creates the codec of a value that is encoded already: an answer that is passed on as it is.
#[cfg(feature = "pool")]
pub(crate) const fn encoded_codec() -> Codec<Bytes> {
    Codec {
        encode: |bytes, sink| {
            sink.write_shared(bytes.clone());
            Ok(())
        },
        decode: |decoder| Ok(decoder.take_all()),
        encode_item: |bytes, out, max| {
            encode_value(out, max, |sink| {
                sink.write_shared(bytes.clone());
                Ok(())
            })
        },
        decode_item: |reader| decode_item(reader, |decoder| Ok(decoder.take_all())),
        skip_item: skip_item::<Bytes>,
    }
}

/// Decodes a value that takes up all of `bytes`.
#[cfg(feature = "pool")]
pub(crate) fn decode_all<T>(codec: Codec<T>, bytes: &Bytes) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(Body::shared(bytes));
    let value = (codec.decode)(&mut decoder)?;
    decoder.finish(type_name::<T>())?;
    Ok(value)
}

fn encode_own<T: Field>(value: &T, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
    let mut bytes = Vec::new();
    write_message(value, &mut Sink::new(&mut bytes, sink.max()));
    byte_buffer::write(&bytes, sink);
    Ok(())
}

fn decode_own<T: Field>(decoder: &mut Decoder<'_>) -> Result<T, DecodeError> {
    let bytes = decoder.bytes()?;
    read_message(&bytes).map_err(|error| decoder.invalid(type_name::<T>(), error.to_string()))
}

fn encode_argument<A: ?Sized + Travels>(value: &A, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
    if value.write_bytes(sink) { Ok(()) } else { encode(value, sink) }
}

fn decode_owned<T: DeserializeOwned + 'static>(
    decoder: &mut Decoder<'_>,
) -> Result<T, DecodeError> {
    if byte_buffer::is_shared::<T>() {
        let bytes = decoder.bytes()?;
        return Ok(byte_buffer::cast(bytes).expect("`is_shared` has checked that `T` is `Bytes`"));
    }
    if byte_buffer::is_list::<T>() {
        let bytes = decoder.byte_vec()?;
        return Ok(byte_buffer::cast(bytes).expect("`is_list` has checked that `T` is `Vec<u8>`"));
    }
    if byte_buffer::is_array::<T>() {
        return decoder.byte_list();
    }
    decoder.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Body;

    const MAX: usize = 1 << 20;

    #[test]
    fn byte_buffer_travels_as_bytes() {
        let mut bytes = Vec::new();
        let codec = codec::<[u8]>();
        (codec.encode)(&[1, 200, 255], &mut Sink::new(&mut bytes, MAX)).expect("bytes encode");

        assert_eq!(bytes, b"\xc4\x03\x01\xc8\xff");
        assert_eq!(
            (codec.decode)(&mut Decoder::new(Body::of(&bytes))).expect("bytes decode"),
            [1, 200, 255]
        );
    }

    #[test]
    fn empty_byte_buffer_survives() {
        let mut bytes = Vec::new();
        let codec = codec::<Vec<u8>>();
        (codec.encode)(&Vec::new(), &mut Sink::new(&mut bytes, MAX)).expect("bytes encode");

        assert_eq!((codec.decode)(&mut Decoder::new(Body::of(&bytes))).expect("bytes decode"), []);
    }
}
