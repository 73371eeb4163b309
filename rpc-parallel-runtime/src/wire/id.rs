//! Ids: what a function, a worker type and a worker are called on the wire.
//!
//! The ids of functions and worker types are hashes of what they *are*. Nothing
//! that depends on an order, an address or a build ever enters one.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::field::{Field, MalformedMessage, Unread, fields};
use super::sink::Sink;

/// The offset basis and the prime of 64-bit FNV-1a, as published.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Ends a field. It is no byte of UTF-8, so that no two lists of fields read the same.
const FIELD_END: &[u8] = &[0xff];

/// Continues a 64-bit FNV-1a hash with more bytes.
const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
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

/// Returns the part of a version that semver promises compatibility for: `1`, `0.3` or `0.0.4`.
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
        Err(_) => panic!("a version cut at an ASCII character is UTF-8"),
    }
}

/// Identifies one function of one worker trait: a hash of its declaration.
///
/// It covers the package, the semver-compatible part of the package's version, the module path,
/// the trait, the function, and its argument and result types as written without spaces. Order,
/// bodies, line numbers and build profiles do not enter.
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

    /// Hashes an id that the user has chosen.
    #[doc(hidden)]
    #[must_use]
    pub const fn chosen(id: &str) -> Self {
        Self(hash_fields(&["function id", id]))
    }

    /// Returns the number that travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Identifies one worker type: a hash of the type, the trait it implements and where.
///
/// serde writes it as 16 hexadecimal digits in human-readable formats, where many readers round
/// large numbers, and as 8 bytes in others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerTypeId(pub(crate) u64);

fields!(newtype WorkerTypeId);

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

    /// Hashes an id that the user has chosen.
    #[doc(hidden)]
    #[must_use]
    pub const fn chosen(id: &str) -> Self {
        Self(hash_fields(&["worker type id", id]))
    }

    /// Returns the number that travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Identifies one worker server, for ever: 128 random bits.
///
/// `Display` and `FromStr` use 32 hexadecimal digits. So does serde in human-readable formats; in
/// others it uses 16 bytes, never a 128-bit number, which serde cannot buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(u128);

impl WorkerId {
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        // Sixteen bytes are never cut short, and `getrandom` blocks only while a machine boots.
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert_eq!(filled, Ok(bytes.len()), "the kernel has no random bytes");
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

/// Reads exactly `len` hexadecimal digits.
fn parse_digits(text: &str, len: usize) -> Option<u128> {
    // `from_str_radix` alone would take a sign.
    let digits = text.len() == len && text.bytes().all(|it| it.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// A text is not the 32 hexadecimal digits of a [`WorkerId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a worker id is 32 hexadecimal digits")]
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
        Ok(Self(number.try_into().expect("8 bytes are a `u64`")))
    }
}

/// Reads an id of `bytes` bytes, as bytes or as twice as many hexadecimal digits.
///
/// It takes both from every format: serde's buffer for tagged, flattened and untagged types says
/// that it is human-readable, and hands on whatever the format below has written.
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

    // serde hands on borrowed and owned bytes by this as well.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<u128, E> {
        if bytes.len() != self.bytes {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    // Formats without bytes write them as a list.
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
