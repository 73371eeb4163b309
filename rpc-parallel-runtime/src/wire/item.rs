//! The items of a map: the arguments and results of many calls, one after the other in one message.
//!
//! ```text
//! number    little-endian, as wide as its type; `usize` and `isize` take 8 bytes
//! ()        nothing
//! other     length:4 MessagePack..
//! ```
//!
//! The end of an item is found without running the user's code. So an item that cannot be decoded
//! does not affect those after it, and items can be skipped.

use std::any::type_name;

use super::argument::Travels;
use super::body::Body;
use super::item_number::{read_number, width};
use super::messagepack::{DecodeError, Decoder, EncodeError, truncated};
use super::sink::{Sink, TooLarge};

/// The length of the length of an item, in bytes.
const LENGTH_LEN: usize = size_of::<u32>();

/// An item cannot be sent.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    #[error(transparent)]
    Unencodable(#[from] EncodeError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Reads items one after the other.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ItemReader<'a> {
    rest: &'a [u8],
    body: Body<'a>,
}

impl<'a> ItemReader<'a> {
    pub(crate) fn new(body: Body<'a>) -> Self {
        Self { rest: body.bytes(), body }
    }

    /// Creates a reader that begins at a position of the bytes, or at their end.
    pub(crate) fn at(body: Body<'a>, position: usize) -> Self {
        Self { rest: body.bytes().get(position..).unwrap_or_default(), body }
    }

    /// Returns the number of bytes before the next item.
    pub(crate) fn position(&self) -> usize {
        self.body.bytes().len() - self.rest.len()
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes the MessagePack of a value that is no number.
    fn take_value(&mut self) -> Option<Body<'a>> {
        let (len, rest) = self.rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.rest = rest;
        Some(self.body.slice(value))
    }
}

/// Appends an item.
///
/// # Errors
///
/// The value cannot be encoded, or exceeds `max` bytes. Nothing was appended.
#[inline(always)]
pub(super) fn encode_item<A: ?Sized + Travels>(
    value: &A,
    out: &mut Vec<u8>,
    max: usize,
    encode: impl FnOnce(&A, &mut Sink<'_>) -> Result<(), EncodeError>,
) -> Result<(), ItemError> {
    if value.write_number(out) {
        return Ok(());
    }
    encode_value(out, max, |sink| encode(value, sink))
}

/// Appends the length of a value and its MessagePack.
pub(super) fn encode_value(
    out: &mut Vec<u8>,
    max: usize,
    encode: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
) -> Result<(), ItemError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    let mut sink = Sink::new(out, max);
    let encoded = encode(&mut sink);
    let len = sink.len();
    let finished = encoded.map_err(ItemError::from).and_then(|()| Ok(sink.finish()?));
    if let Err(error) = finished {
        out.truncate(start);
        return Err(error);
    }
    let len = u32::try_from(len).expect("the limit of a message is below 4 GiB");
    out[start..start + LENGTH_LEN].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Decodes the next item.
///
/// # Errors
///
/// The reader is anywhere in the item. The caller returns to the beginning of the item, and
/// [skips](skip_item) it.
#[inline(always)]
pub(super) fn decode_item<T: 'static>(
    reader: &mut ItemReader<'_>,
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if let Some(width) = width::<T>() {
        let len = reader.rest.len();
        let number = reader.take(width).and_then(read_number);
        return number.ok_or_else(|| truncated(type_name::<T>(), len));
    }
    let len = reader.rest.len();
    let value = reader.take_value().ok_or_else(|| truncated(type_name::<T>(), len))?;
    let mut decoder = Decoder::new(value);
    let decoded = decode(&mut decoder)?;
    decoder.finish(type_name::<T>())?;
    Ok(decoded)
}

/// Skips the next item. Returns whether it is complete.
#[inline(always)]
pub(super) fn skip_item<T: 'static>(reader: &mut ItemReader<'_>) -> bool {
    match width::<T>() {
        Some(width) => reader.take(width).is_some(),
        None => reader.take_value().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Message, codec};

    const MAX: usize = 1 << 20;

    /// Encodes two values around an item that must be skipped, and decodes them.
    #[track_caller]
    fn survives<T: Message + PartialEq + Debug>(first: &T, skipped: &T, last: &T) -> usize {
        let (codec, mut out) = (codec::<T>(), Vec::new());
        for value in [first, skipped, last] {
            (codec.encode_item)(value, &mut out, MAX).expect("the value is small");
        }

        let mut reader = ItemReader::new(Body::of(&out));
        let decode = |it: &mut _| (codec.decode_item)(it).expect("the item is complete");
        assert_eq!(&decode(&mut reader), first);
        assert!((codec.skip_item)(&mut reader));
        assert_eq!(&decode(&mut reader), last);
        assert!((codec.decode_item)(&mut reader).is_err() || out.is_empty());
        out.len()
    }

    #[test]
    fn numbers_take_their_width() {
        assert_eq!(survives(&1_u64, &2, &u64::MAX), 3 * 8);
        assert_eq!(survives(&-1_i16, &2, &i16::MIN), 3 * 2);
        assert_eq!(survives(&0.5_f32, &2.0, &f32::INFINITY), 3 * 4);
        assert_eq!(survives(&1_usize, &2, &usize::MAX), 3 * 8);
        assert_eq!(survives(&(), &(), &()), 0);
    }

    #[test]
    fn other_values_are_preceded_by_their_length() {
        assert_eq!(survives(&true, &false, &true), 3 * 5);
        survives(&"one".to_owned(), &"x".repeat(1000), &String::new());
        survives(&vec![1_u8, 200], &vec![7; 70_000], &Vec::new());
        survives(&Some((1_u64, 'x')), &None, &Some((2, 'y')));
    }

    #[test]
    fn large_byte_sequence_is_decoded_without_copy() {
        let (codec, mut out) = (codec::<Bytes>(), Vec::new());
        (codec.encode_item)(&vec![7; 10_000].into(), &mut out, MAX).expect("the value is small");
        let out = Bytes::from(out);

        let decoded = (codec.decode_item)(&mut ItemReader::new(Body::shared(&out)));

        let decoded = decoded.expect("the item is complete");
        assert!(out.as_ptr_range().contains(&decoded.as_ptr()));
    }

    #[test]
    fn item_beyond_limit_is_not_appended() {
        let mut out = vec![7];

        let error = (codec::<str>().encode_item)("0123456789", &mut out, 10);

        let size = TooLarge { size: 11, max: 10 };
        assert!(matches!(error, Err(ItemError::TooLarge(it)) if it == size));
        assert_eq!(out, [7]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let reader = ItemReader::new(Body::of(&bytes));

            let _ = (codec::<u32>().decode_item)(&mut reader.clone());
            let _ = (codec::<Option<String>>().decode_item)(&mut reader.clone());
            let _ = (codec::<Vec<u8>>().skip_item)(&mut reader.clone());
        }
    }
}
