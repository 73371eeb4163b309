//! The ids that identify functions, worker types and workers on the wire.
//!
//! The ids of functions and worker types are hashes of their declarations. They never depend on an
//! order, an address or a build.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::field::{Field, MalformedMessage, Unread, fields};
use super::sink::Sink;

/// The offset basis and the prime of 64-bit FNV-1a, as published.
pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
pub(super) const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Terminates a field. The byte does not occur in UTF-8, so that different lists of fields are
/// different byte sequences.
const FIELD_END: &[u8] = &[0xff];

/// Continues a 64-bit FNV-1a hash with more bytes.
pub(super) const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(FNV_PRIME);
        at += 1;
    }
    hash
}

/// Hashes a list of fields.
pub(super) const fn hash_fields(fields: &[&str]) -> u64 {
    let mut hash = FNV_OFFSET;
    let mut at = 0;
    while at < fields.len() {
        hash = fnv1a(fnv1a(hash, fields[at].as_bytes()), FIELD_END);
        at += 1;
    }
    hash
}

/// Returns the semver-compatible part of a version: `1`, `0.3` or `0.0.4`.
const fn compatible(version: &str) -> &str {
    let bytes = version.as_bytes();
    let mut at = 0;
    let mut all_zero = true;
    while at < bytes.len() && (bytes[at] != b'.' || all_zero) && bytes[at] != b'-' {
        if bytes[at].is_ascii_digit() && bytes[at] != b'0' {
            all_zero = false;
        }
        at += 1;
    }
    bytes_to_str(bytes.split_at(at).0)
}

const fn bytes_to_str(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a version that is cut at an ASCII character is UTF-8"),
    }
}

/// The id of one function of a worker trait: a hash of its declaration.
///
/// The hash covers the name of the package, the semver-compatible part of its version, the module
/// path, the names of the trait and the function, and the argument and result types as written in
/// the source, without spaces. It does not depend on the order of declarations, function bodies,
/// line numbers or build profiles. With `#[worker(id = "..")]` the id is a hash of that text
/// instead.
///
/// `Display` writes 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub(crate) u64);

impl FunctionId {
    /// Hashes a function's declaration.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_declaration(
        (package, version, module): (&str, &str, &str),
        worker_trait: &str,
        function: &str,
        arguments: &str,
        result: &str,
    ) -> Self {
        let version = compatible(version);
        Self(hash_fields(&[
            "function",
            package,
            version,
            module,
            worker_trait,
            function,
            arguments,
            result,
        ]))
    }

    /// Hashes an id text that the user has chosen.
    #[doc(hidden)]
    #[must_use]
    pub const fn chosen(id: &str) -> Self {
        Self(hash_fields(&["function id", id]))
    }

    /// Returns the id as a number, as it travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The id of one worker type: a hash of its declaration.
///
/// The hash covers the name of the package, the semver-compatible part of its version, the module
/// path, and the names of the type and of the worker trait that it implements.
/// With `#[worker(id = "..")]` on the impl, the id is a hash of that text instead.
///
/// `Display` writes 16 hexadecimal digits. So does serde in human-readable formats, because many
/// readers of such formats round large numbers. In other formats serde writes 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerTypeId(pub(crate) u64);

fields!(newtype WorkerTypeId);
#[cfg(feature = "pool")]
fields!(newtype FunctionId);

impl WorkerTypeId {
    /// Hashes the implementation of a worker trait.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_declaration(
        (package, version, module): (&str, &str, &str),
        worker_type: &str,
        worker_trait: &str,
    ) -> Self {
        let version = compatible(version);
        Self(hash_fields(&["worker type", package, version, module, worker_type, worker_trait]))
    }

    /// Hashes an id text that the user has chosen.
    #[doc(hidden)]
    #[must_use]
    pub const fn chosen(id: &str) -> Self {
        Self(hash_fields(&["worker type id", id]))
    }

    /// Returns the id as a number, as it travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The id of one worker server: 128 random bits, which are never reused.
///
/// `Display` and `FromStr` use 32 hexadecimal digits. So does serde in human-readable formats. In
/// other formats serde uses 16 bytes, and not a 128-bit integer, because it cannot buffer one.
///
/// ```
/// use rpc_parallel::WorkerId;
///
/// let id: WorkerId = "0123456789abcdef0123456789abcdef".parse().unwrap();
/// assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u128);

impl WorkerId {
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        // `getrandom` returns up to 256 bytes completely, and blocks only while a machine boots.
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert_eq!(filled, Ok(bytes.len()), "`getrandom` must return 16 bytes");
        Self::from_bytes(bytes)
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Field for WorkerId {
    fn write(&self, sink: &mut Sink<'_>) {
        self.to_bytes().iter().for_each(|it| it.write(sink));
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        unread.take_array().map(Self::from_bytes)
    }
}

impl FromStr for WorkerId {
    type Err = ParseWorkerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_digits(text, 32).map(Self).ok_or(ParseWorkerIdError)
    }
}

/// Parses exactly `len` hexadecimal digits.
fn parse_digits(text: &str, len: usize) -> Option<u128> {
    // `from_str_radix` alone would accept a sign.
    let digits = text.len() == len && text.bytes().all(|it| it.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// A text could not be parsed as a [`WorkerId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid worker id: expected 32 hexadecimal digits")]
pub struct ParseWorkerIdError;

impl Serialize for WorkerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IdVisitor { bytes: 16 }.deserialize(deserializer).map(Self)
    }
}

impl Serialize for WorkerTypeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for WorkerTypeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = IdVisitor { bytes: 8 }.deserialize(deserializer)?;
        Ok(Self(number.try_into().expect("the visitor accepts 8 bytes, which fit into a `u64`")))
    }
}

/// Deserializes an id of `bytes` bytes, from bytes or from twice as many hexadecimal digits.
///
/// Every format may supply either: serde's buffer for tagged, flattened and untagged types reports
/// itself as human-readable, but passes on the form of the underlying format.
#[derive(Clone, Copy)]
struct IdVisitor {
    bytes: usize,
}

impl IdVisitor {
    fn deserialize<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<u128, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(self)
        } else {
            deserializer.deserialize_bytes(self)
        }
    }
}

impl<'de> Visitor<'de> for IdVisitor {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id of {} hexadecimal digits or {} bytes", 2 * self.bytes, self.bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u128, E> {
        let number = parse_digits(text, 2 * self.bytes);
        number.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    // The default implementations for borrowed and owned bytes call this function.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<u128, E> {
        if bytes.len() != self.bytes {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    // Formats without a byte type write a list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u128, A::Error> {
        let (mut number, mut len) = (0, 0);
        while let Some(byte) = list.next_element::<u8>()? {
            number = number << 8 | u128::from(byte);
            len += 1;
            if len > self.bytes {
                break;
            }
        }
        if len == self.bytes { Ok(number) } else { Err(A::Error::invalid_length(len, &self)) }
    }
}

macro_rules! hexadecimal {
    ($($id:ident)*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self)
            }
        }
    )*};
}

hexadecimal!(FunctionId WorkerTypeId);

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_matches_published_test_vectors() {
        // From the test vectors of Fowler, Noll and Vo.
        let answers = [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("b", 0xaf63_df4c_8601_f1a5),
            ("foo", 0xdcb2_7518_fed9_d577),
            ("foobar", 0x8594_4171_f739_67e8),
            ("chongo was here!\n", 0x4681_0940_eff5_f915),
        ];

        for (input, answer) in answers {
            assert_eq!(fnv1a(FNV_OFFSET, input.as_bytes()), answer, "{input:?}");
        }
    }

    #[test]
    fn field_boundaries_change_hash() {
        assert_ne!(hash_fields(&["ab", "c"]), hash_fields(&["a", "bc"]));
        assert_ne!(hash_fields(&["ab"]), hash_fields(&["ab", ""]));
    }

    #[test]
    fn version_is_cut_to_compatible_part() {
        let cut = ["1.2.3", "12.0.0-beta.1", "0.3.7", "0.30.7", "0.0.4", "0.0.0", "0.0.0-dev"];

        let parts = cut.map(compatible);

        assert_eq!(parts, ["1", "12", "0.3", "0.30", "0.0.4", "0.0.0", "0.0.0"]);
    }

    #[test]
    fn worker_id_survives_printing_and_parsing() {
        let id = WorkerId::random();

        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("+".repeat(32).parse::<WorkerId>(), Err(ParseWorkerIdError));
        assert_eq!("12".parse::<WorkerId>(), Err(ParseWorkerIdError));
    }
}
