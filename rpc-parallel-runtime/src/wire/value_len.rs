//! The lengths of MessagePack values, without decoding them.

use std::io::Read;

/// Returns the length of the first `count` values, in bytes; `None` if they are malformed or
/// incomplete.
pub(crate) fn values_len(bytes: &[u8], count: u32) -> Option<usize> {
    let mut rest = bytes;
    // Values that are elements of another one count as well, so that no nesting needs the stack.
    let mut left = u64::from(count);
    while left > 0 {
        left = left - 1 + skip_beginning(&mut rest)?;
    }
    Some(bytes.len() - rest.len())
}

/// Skips a value, but of an array or a map only the header. Returns how many elements follow.
fn skip_beginning(rest: &mut &[u8]) -> Option<u64> {
    let marker = take_number(rest, 1)?;
    let (data, elements) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        0x80..=0x8f => (0, 2 * (marker & 0x0f)),
        0x90..=0x9f => (0, marker & 0x0f),
        0xa0..=0xbf => (marker & 0x1f, 0),
        // Buffers and texts, with a length of 1, 2 or 4 bytes.
        0xc4..=0xc6 => (take_number(rest, 1 << (marker - 0xc4))?, 0),
        0xd9..=0xdb => (take_number(rest, 1 << (marker - 0xd9))?, 0),
        // Extensions have a type in addition.
        0xc7..=0xc9 => (take_number(rest, 1 << (marker - 0xc7))? + 1, 0),
        0xd4..=0xd8 => ((1 << (marker - 0xd4)) + 1, 0),
        // Numbers.
        0xca | 0xcb => (4 << (marker - 0xca), 0),
        0xcc..=0xcf => (1 << (marker - 0xcc), 0),
        0xd0..=0xd3 => (1 << (marker - 0xd0), 0),
        // Arrays and maps, with a length of 2 or 4 bytes.
        0xdc | 0xdd => (0, take_number(rest, 2 << (marker - 0xdc))?),
        0xde | 0xdf => (0, 2 * take_number(rest, 2 << (marker - 0xde))?),
        _ => return None,
    };
    *rest = rest.get(usize::try_from(data).ok()?..)?;
    Some(elements)
}

/// Takes a big-endian number of `len` bytes, which are at most 8.
fn take_number(rest: &mut &[u8], len: usize) -> Option<u64> {
    let mut number = [0; 8];
    rest.read_exact(&mut number[8 - len..]).ok()?;
    Some(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::wire::{Sink, encode};

    #[track_caller]
    fn assert_len<T: Serialize>(value: &T) {
        let mut bytes = Vec::new();
        encode(value, &mut Sink::new(&mut bytes, 1 << 20)).expect("the value can be encoded");
        let len = bytes.len();
        bytes.extend_from_within(..);
        bytes.push(0xc1);

        assert_eq!(values_len(&bytes, 1), Some(len));
        assert_eq!(values_len(&bytes, 2), Some(2 * len));
        assert_eq!(values_len(&bytes, 3), None);
        assert_eq!(values_len(&bytes[..len - 1], 1), None);
    }

    #[test]
    fn lengths_of_values_of_each_size_are_found() {
        for len in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            assert_len(&"x".repeat(len));
            assert_len(&vec![Some(7_u8); len]);
            assert_len(&BTreeMap::from_iter((0..len).map(|it| (it, ()))));
        }
        for shift in 0..64 {
            assert_len(&(u64::MAX >> shift));
            assert_len(&(i64::MIN >> shift));
        }
        assert_len(&(true, false, 0.5_f32, 0.5_f64, u128::MAX, 'x'));
    }

    #[test]
    fn lengths_of_extensions_are_found() {
        for (value, len) in [(&[0xd4, 7][..], 1), (&[0xd8, 7], 16), (&[0xc7, 3, 7], 3)] {
            let bytes = [value, &vec![0; len]].concat();

            assert_eq!(values_len(&bytes, 1), Some(bytes.len()));
        }
    }

    #[test]
    fn array_longer_than_its_bytes_has_no_length() {
        assert_eq!(
            values_len(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0xdd, 0xff, 0xff, 0xff, 0xff], 1),
            None
        );
    }

    proptest! {
        #[test]
        fn lengths_of_mixed_values_are_found(
            value in any::<(Vec<(u8, i64)>, String, Option<char>, BTreeMap<u16, bool>, f64)>(),
        ) {
            assert_len(&value);
        }

        #[test]
        fn arbitrary_bytes_have_length_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            count in any::<u32>(),
        ) {
            if let Some(len) = values_len(&bytes, count) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
