//! Encodes and decodes users' values as MessagePack. No other file names `rmp_serde`.
//!
//! Structs are encoded as maps, so that values survive the round trip with any serde attribute. The
//! compact form, an array, silently corrupts a struct in which serde skips a field.

use std::any::type_name;
use std::io::Write;

use bytes::Bytes;
use rmp_serde::decode::ReadRefReader;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::byte_buffer::{self, AnyBytes};
use super::guard::{Guarded, MAX_DEPTH};
use super::sink::Sink;

/// A value could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("failed to encode a `{from}` as MessagePack")]
pub struct EncodeError {
    from: &'static str,
    source: rmp_serde::encode::Error,
}

/// Bytes could not be decoded as a value.
#[derive(Debug, thiserror::Error)]
#[error("failed to decode {len} bytes of MessagePack as `{into}`")]
pub struct DecodeError {
    len: usize,
    into: &'static str,
    source: rmp_serde::decode::Error,
}

/// Encodes one value.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    sink: &mut Sink<'_>,
) -> Result<(), EncodeError> {
    let mut serializer = rmp_serde::Serializer::new(sink).with_struct_map();
    let serialized = Guarded::new(value).serialize(&mut serializer);
    serialized.map_err(|source| encode_error(type_name::<T>(), source))
}

fn encode_error(from: &'static str, source: rmp_serde::encode::Error) -> EncodeError {
    let source = match source {
        rmp_serde::encode::Error::Syntax(why) if is_128_bit_error(&why) => {
            rmp_serde::encode::Error::Syntax(format!("{why}: {HINT_128_BIT}"))
        }
        source => source,
    };
    EncodeError { from, source }
}

/// The cause and the cure of an error about a 128-bit integer in serde's buffer.
const HINT_128_BIT: &str = "serde cannot buffer 128-bit integers, and it buffers the content of \
                          internally tagged, untagged and flattened types; use an externally \
                          tagged enum, or `#[serde(with = ..)]` to write the integer as text or \
                          as two `u64`s";

/// The header of a 128-bit integer in MessagePack: a buffer of 16 bytes.
const HEADER_OF_128_BIT: [u8; 2] = [0xc4, 16];

/// Returns whether the text of an error is serde's about an unsupported 128-bit integer.
fn is_128_bit_error(why: &str) -> bool {
    why.contains("u128 is not supported") || why.contains("i128 is not supported")
}

/// Decodes one value, which must take up all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(Body::of(bytes));
    let value = decoder.next()?;
    decoder.finish(type_name::<T>())?;
    Ok(value)
}

/// Decodes the values of a message one after another.
pub struct Decoder<'a> {
    deserializer: rmp_serde::Deserializer<ReadRefReader<'a, [u8]>>,
    body: Body<'a>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: Body<'a>) -> Self {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(body.bytes());
        // A level of the value may be two of MessagePack: a variant is a map with one entry.
        deserializer.set_max_depth(2 * usize::from(MAX_DEPTH));
        Self { deserializer, body }
    }

    /// Decodes the next value.
    pub(crate) fn next<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        let value = T::deserialize(&mut self.deserializer);
        value.map_err(|source| self.error(type_name::<T>(), source))
    }

    /// Checks that no bytes are left. The error names `into` as the type.
    pub(crate) fn finish(mut self, into: &'static str) -> Result<(), DecodeError> {
        // Reading the first byte of a value fails only at the end of the message.
        match byte_buffer::deserialize(&mut self.deserializer) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(()),
            Ok(_) | Err(_) => Err(self.error(
                into,
                rmp_serde::decode::Error::Syntax("trailing bytes after the value".into()),
            )),
        }
    }

    /// Takes the whole message, of which nothing has been decoded.
    #[cfg(feature = "pool")]
    pub(super) fn take_all(&mut self) -> Bytes {
        let all = self.body.keep();
        *self = Self::new(Body::of(&[]));
        all
    }

    /// Decodes a byte sequence. [`Body::keep_slice`] determines whether it is copied.
    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = byte_buffer::deserialize(&mut self.deserializer);
        match bytes {
            Ok(AnyBytes::Borrowed(bytes)) => Ok(self.body.keep_slice(bytes)),
            Ok(AnyBytes::Owned(bytes)) => Ok(bytes.into()),
            Err(source) => Err(self.error(type_name::<Bytes>(), source)),
        }
    }

    /// Decodes a byte sequence.
    pub(super) fn byte_vec(&mut self) -> Result<Vec<u8>, DecodeError> {
        let bytes = byte_buffer::deserialize(&mut self.deserializer);
        match bytes {
            Ok(bytes) => Ok(bytes.into_vec()),
            Err(source) => Err(self.error(type_name::<Vec<u8>>(), source)),
        }
    }

    /// Decodes a byte sequence as a type that deserializes from a list.
    pub(super) fn byte_list<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let bytes = self.byte_vec()?;
        let list = T::deserialize(byte_buffer::elements::<rmp_serde::decode::Error>(&bytes));
        list.map_err(|source| self.error(type_name::<T>(), source))
    }

    /// Returns the error for a value that is valid MessagePack, and is not a valid `into`.
    pub(super) fn invalid(&self, into: &'static str, why: String) -> DecodeError {
        self.error(into, rmp_serde::decode::Error::Uncategorized(why))
    }

    fn error(&self, into: &'static str, source: rmp_serde::decode::Error) -> DecodeError {
        use rmp_serde::decode::Error::Syntax;

        let bytes = self.body.bytes();
        let source = match source {
            Syntax(why) if is_128_bit_error(&why) => Syntax(format!("{why}: {HINT_128_BIT}")),
            // serde discards the errors of an untagged enum's variants, so this is a guess.
            Syntax(why)
                if why.starts_with("data did not match any variant of untagged enum")
                    && bytes.windows(2).any(|it| it == HEADER_OF_128_BIT) =>
            {
                Syntax(format!("{why}; if it holds a 128-bit integer: {HINT_128_BIT}"))
            }
            source => source,
        };
        DecodeError { len: bytes.len(), into, source }
    }
}

/// Writes the header of a tuple of `len` values: that of a MessagePack array.
pub(crate) fn write_tuple_len(len: u8, sink: &mut Sink<'_>) {
    let written = match len {
        0..16 => sink.write_all(&[0x90 | len]),
        16.. => sink.write_all(&[0xdc, 0, len]),
    };
    written.expect("writing to a sink cannot fail");
}

/// Returns a tuple without its header, which must announce `len` values.
pub(crate) fn strip_tuple_len(len: u8, tuple: Body<'_>) -> Result<Body<'_>, DecodeError> {
    let stripped = match (len, tuple.bytes()) {
        (0..16, [header, rest @ ..]) if *header == 0x90 | len => Some(rest),
        (16.., [0xdc, 0, header, rest @ ..]) if *header == len => Some(rest),
        _ => None,
    };
    stripped.map(|it| tuple.slice(it)).ok_or_else(|| DecodeError {
        len: tuple.bytes().len(),
        into: "arguments",
        source: rmp_serde::decode::Error::LengthMismatch(len.into()),
    })
}

/// Returns the error for an item of which only `len` bytes have arrived.
#[cfg(feature = "pool")]
#[cold]
pub(super) fn truncated(into: &'static str, len: usize) -> DecodeError {
    let why = "the item is truncated or out of range".to_owned();
    DecodeError { len, into, source: rmp_serde::decode::Error::Syntax(why) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{WorkerId, WorkerTypeId};

    const MAX: usize = 1 << 20;

    fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut Sink::new(&mut bytes, MAX)).expect("it can be encoded");
        bytes
    }

    #[track_caller]
    fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let bytes = bytes_of(&value);
        assert_eq!(decode::<T>(&bytes).expect("it can be decoded"), value);
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        a: Option<i64>,
        b: Option<i64>,
        c: i64,
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Bytes { bytes: Vec<u8> },
        Text(String),
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Flattened {
        before: u8,
        #[serde(flatten)]
        inner: Skipping,
        #[serde(flatten)]
        rest: BTreeMap<String, Vec<u8>>,
    }

    #[test]
    fn skipped_field_does_not_shift_others() {
        let value = Skipping { a: None, b: Some(7), c: 0 };

        // A map of two entries. As an array, the compact form, `b` would be decoded as `a`.
        assert_eq!(bytes_of(&value), b"\x82\xa1b\x07\xa1c\x00");
        survives(value);
    }

    #[test]
    fn untagged_and_flattened_values_survive() {
        survives(vec![
            Untagged::Number(7),
            Untagged::Bytes { bytes: vec![1, 200] },
            Untagged::Text("seven".to_owned()),
        ]);
        survives(Flattened {
            before: 1,
            inner: Skipping { a: None, b: Some(7), c: 0 },
            rest: BTreeMap::from([("x".to_owned(), vec![1, 200])]),
        });
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    #[serde(tag = "is")]
    enum Tagged<T> {
        Found { id: T },
        Other(Other<T>),
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Other<T> {
        id: T,
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Flat<T> {
        number: u8,
        #[serde(flatten)]
        other: Other<T>,
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct FlatVariant<T> {
        #[serde(flatten)]
        variant: External<T>,
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    enum External<T> {
        Tuple(T, u8),
        Struct { id: T },
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Number(u64),
        Id(T),
    }

    /// Passes a value through all of serde's buffers.
    #[track_caller]
    fn survives_buffering<T>(value: T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + Copy,
    {
        survives(value);
        survives([Tagged::Found { id: value }, Tagged::Other(Other { id: value })]);
        survives(Flat { number: 7, other: Other { id: value } });
        survives(FlatVariant { variant: External::Tuple(value, 7) });
        survives(FlatVariant { variant: External::Struct { id: value } });
        survives([Either::Number(7), Either::Id(value)]);
        survives(BTreeMap::from([(7_u8, Some(Either::Id(value)))]));
    }

    /// Returns the text of an error with all its causes.
    fn in_full(error: impl std::error::Error + 'static) -> String {
        let error: &dyn std::error::Error = &error;
        let causes = std::iter::successors(Some(error), |it| it.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn buffered_128_bit_integer_fails_with_cause_and_cure() {
        fn error_of<T: Serialize + DeserializeOwned + Debug>(value: &T) -> String {
            let bytes = bytes_of(value);
            in_full(decode::<T>(&bytes).expect_err("serde cannot buffer it"))
        }

        let tagged = error_of(&Tagged::Found { id: u128::MAX });
        let flattened = error_of(&Flat { number: 7, other: Other { id: -7_i128 } });
        let untagged = error_of(&Either::Id(u128::MAX));

        for (error, original) in [
            (tagged, "u128 is not supported"),
            (flattened, "i128 is not supported"),
            (untagged, "data did not match any variant of untagged enum Either"),
        ] {
            assert!(error.contains(original), "{error}");
            assert!(error.contains("serde cannot buffer 128-bit integers"), "{error}");
            assert!(error.contains("externally tagged"), "{error}");
        }
    }

    #[test]
    fn encoding_buffered_128_bit_integer_fails_with_cause_and_cure() {
        let value = FlatVariant { variant: External::Tuple(7_u128, 7) };

        let error = encode(&value, &mut Sink::new(&mut Vec::new(), MAX));

        let error = in_full(error.expect_err("serde cannot buffer it"));
        assert!(error.contains("u128 is not supported"), "{error}");
        assert!(error.contains("serde cannot buffer 128-bit integers"), "{error}");
    }

    #[test]
    fn unmatched_untagged_value_without_128_bit_integer_gets_no_hint() {
        let error = decode::<Either<u8>>(&bytes_of(&"text")).expect_err("it is no number");

        assert!(!in_full(error).contains("128"));
    }

    #[test]
    fn extreme_numbers_survive() {
        survives((u128::MAX, i128::MIN, u64::MAX, i64::MIN, f64::INFINITY));
        assert!(decode::<f32>(&bytes_of(&f32::NAN)).expect("it is a number").is_nan());
    }

    #[test]
    fn nesting_beyond_limit_fails() {
        let nested = |depth| [vec![0x91; depth], vec![0xc0]].concat();

        assert!(decode::<Nested>(&nested(200)).is_ok());
        assert!(decode::<Nested>(&nested(100_000)).is_err());
    }

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Nested(Option<Box<(Nested,)>>);

    #[test]
    fn value_nested_too_deeply_fails_to_encode() {
        let nested = |depth| (0..depth).fold(Nested(None), |it, _| Nested(Some(Box::new((it,)))));
        let mut bytes = Vec::new();

        survives(nested(80));
        let error = encode(&nested(100), &mut Sink::new(&mut bytes, MAX));

        let error = error.expect_err("it is nested too deep").source.to_string();
        assert!(error.ends_with("the value is nested deeper than 256 levels"), "{error}");
    }

    #[test]
    fn some_of_nothing_fails_to_encode() {
        let refused = |value: &dyn Fn(&mut Sink<'_>) -> Result<(), EncodeError>| {
            value(&mut Sink::new(&mut Vec::new(), MAX)).is_err()
        };

        assert!(refused(&|sink| encode(&Some(None::<u8>), sink)));
        assert!(refused(&|sink| encode(&[Some(())], sink)));
        assert!(refused(&|sink| encode(&Some(Some(Nested(None))), sink)));
        survives((None::<Option<u8>>, Some(Some(7)), Some(Vec::<u8>::new())));
    }

    #[test]
    fn trailing_bytes_fail_to_decode() {
        let error = decode::<u8>(b"\x07\x07").expect_err("there is one too many");

        assert_eq!(error.to_string(), "failed to decode 2 bytes of MessagePack as `u8`");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode::<Untagged>(&bytes);
            let _ = decode::<Flattened>(&bytes);
            let _ = decode::<(String, Vec<u8>, Option<char>)>(&bytes);
        }

        #[test]
        fn ids_survive_buffering(worker in any::<[u8; 16]>(), worker_type in any::<u64>()) {
            survives_buffering(WorkerId::from_bytes(worker));
            survives_buffering(WorkerTypeId(worker_type));
        }

        #[test]
        fn values_survive(value in any::<(Vec<(u8, i64)>, String, Option<char>, BTreeMap<u16, bool>, f64)>()) {
            survives(value);
        }
    }
}
