//! Parses and formats sizes and durations: `1500`, `64KiB`, `250ms`, `2s`.
//!
//! A value is formatted as a whole number of the largest possible unit, so that it parses back to
//! the same value.

use std::time::Duration;

/// The units of sizes in bytes, largest first. A number without a unit is a number of bytes.
const SIZES: [(&str, u128); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// The units of durations in nanoseconds, largest first.
const TIMES: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses a size in bytes; `None` if the text is not a size, or the size exceeds `usize::MAX`.
pub(super) fn read_size(text: &str) -> Option<usize> {
    usize::try_from(read(text, &SIZES)?).ok()
}

pub(super) fn write_size(bytes: usize) -> String {
    write(bytes as u128, &SIZES)
}

/// Parses a duration; `None` if the text is not a duration, or exceeds `Duration::MAX`.
pub(super) fn read_duration(text: &str) -> Option<Duration> {
    let nanos = read(text, &TIMES)?;
    let second = Duration::from_secs(1).as_nanos();
    let (seconds, rest) =
        (u64::try_from(nanos / second).ok()?, u32::try_from(nanos % second).ok()?);
    Some(Duration::new(seconds, rest))
}

pub(super) fn write_duration(duration: Duration) -> String {
    write(duration.as_nanos(), &TIMES)
}

fn read(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u128>().ok()?.checked_mul(*unit)
}

fn write(quantity: u128, units: &[(&str, u128)]) -> String {
    let whole = units.iter().find(|(_, unit)| quantity != 0 && quantity.is_multiple_of(*unit));
    let (name, unit) = whole.or(units.last()).expect("the table of units is not empty");
    format!("{}{name}", quantity / unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn size_survives_printing_and_parsing(bytes in any::<usize>(), shift in 0..64) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(read_size(&write_size(bytes)), Some(bytes));
        }

        #[test]
        fn duration_survives_printing_and_parsing(seconds in any::<u64>(), nanos in 0..1_000_000_000_u32, shift in 0..64) {
            for nanos in [nanos, nanos / 1_000_000 * 1_000_000, 0] {
                let duration = Duration::new(seconds >> shift, nanos);
                prop_assert_eq!(read_duration(&write_duration(duration)), Some(duration));
            }
        }

        #[test]
        fn arbitrary_text_is_quantity_or_none(text in any::<String>()) {
            let _ = (read_size(&text), read_duration(&text));
        }
    }

    #[test]
    fn sizes_have_memory_units() {
        let read = ["0", "1500", "64KiB", "100MiB", "1GiB"].map(read_size);

        assert_eq!(read, [0, 1500, 64 << 10, 100 << 20, 1 << 30].map(Some));
        assert_eq!([1500, 1 << 16, 4095 << 20].map(write_size), ["1500", "64KiB", "4095MiB"]);
    }

    #[test]
    fn durations_have_time_units() {
        let read = ["250ms", "2s", "1m", "1h", "1500us", "7ns"].map(read_duration);

        let expected =
            [250_000_000, 2_000_000_000, 60_000_000_000, 3_600_000_000_000, 1_500_000, 7];
        assert_eq!(read, expected.map(|it| Some(Duration::from_nanos(it))));
        let written = [90, 7200, 0].map(|it| write_duration(Duration::from_secs(it)));
        assert_eq!(written, ["90s", "2h", "0ns"]);
    }

    #[test]
    fn malformed_quantity_is_none() {
        for text in ["", "KiB", "-1", "+1", "1.5MiB", "1 KiB", "1kib", "1MB", "s"] {
            assert_eq!(read_size(text), None, "{text:?}");
        }
        for text in ["", "ms", "-1s", "1.5s", "1 s", "5", "0", "1d", "1S", "never"] {
            assert_eq!(read_duration(text), None, "{text:?}");
        }
        let beyond = format!("{}h", u128::MAX);
        assert_eq!((read_duration(&beyond), read_size(&u128::MAX.to_string())), (None, None));
    }
}
