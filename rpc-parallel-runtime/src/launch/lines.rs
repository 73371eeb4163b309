//! Splits the output of a worker into complete lines with a prefix.

/// The maximum length of a line, in bytes. A longer line becomes several.
const LONGEST: usize = 64 * 1024;

/// The capacity that is kept for the next line, in bytes.
const KEPT_CAPACITY: usize = 1024;

/// The lines of one stream. It buffers the incomplete last line.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Adds output, and appends the lines that are complete to `to`.
    pub(super) fn add(&mut self, bytes: &[u8], prefix: &str, to: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|it| *it == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.extend(end, prefix, to);
                    self.end_line(prefix, to);
                }
                None => self.extend(part, prefix, to),
            }
        }
    }

    /// Ends the incomplete last line, and appends it to `to`.
    pub(super) fn finish(&mut self, prefix: &str, to: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.end_line(prefix, to);
        }
    }

    fn extend(&mut self, mut part: &[u8], prefix: &str, to: &mut Vec<u8>) {
        while self.begun.len() + part.len() > LONGEST {
            let (first, rest) = part.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(first);
            part = rest;
            let whole = whole_characters(&self.begun, part[0]);
            let cut = self.begun.split_off(whole);
            self.end_line(prefix, to);
            self.begun = cut;
        }
        self.begun.extend_from_slice(part);
    }

    fn end_line(&mut self, prefix: &str, to: &mut Vec<u8>) {
        to.extend_from_slice(prefix.as_bytes());
        to.append(&mut self.begun);
        to.push(b'\n');
        // The memory of a long line is freed.
        self.begun.shrink_to(KEPT_CAPACITY);
    }
}

/// Returns how many of the bytes are complete characters, if `next` is the byte after them.
fn whole_characters(bytes: &[u8], mut next: u8) -> usize {
    let mut len = bytes.len();
    // A UTF-8 character has up to three continuation bytes. Longer sequences are not text.
    while next & 0b1100_0000 == 0b1000_0000 {
        if bytes.len() - len == 3 || len == 1 {
            return bytes.len();
        }
        len -= 1;
        next = bytes[len];
    }
    len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut lines, mut to) = (Lines::default(), Vec::new());
        for part in parts {
            lines.add(part, "[it] ", &mut to);
        }
        lines.finish("[it] ", &mut to);
        to
    }

    #[test]
    fn every_line_gets_prefix_and_last_line_gets_newline() {
        let parts = ["one\ntw", "o\n", "\n", "thr", "ee"].map(str::as_bytes);

        assert_eq!(prefixed(parts), b"[it] one\n[it] two\n[it] \n[it] three\n");
        assert_eq!(prefixed([b"" as &[u8]]), b"");
    }

    #[test]
    fn incomplete_line_is_held_back() {
        let (mut lines, mut to) = (Lines::default(), Vec::new());

        lines.add(b"not ye", "[it] ", &mut to);
        assert_eq!(to, b"");
        lines.add(b"t\nnor this", "[it] ", &mut to);

        assert_eq!(to, b"[it] not yet\n");
    }

    #[test]
    fn too_long_line_is_split_between_characters() {
        let longest = "x".repeat(LONGEST);
        let one = format!("{longest}\n");
        let two = format!("{}\u{1F980}more\n", &longest[2..]);

        let [one, two] = [one, two].map(|it| prefixed([it.as_bytes()]));

        assert_eq!(one, format!("[it] {longest}\n").into_bytes());
        let expected = format!("[it] {}\n[it] \u{1F980}more\n", &longest[2..]);
        assert_eq!(two, expected.into_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn lines_do_not_depend_on_how_bytes_are_split(
            bytes in proptest::collection::vec(prop_oneof![4 => Just(b'x'), 1 => Just(b'\n')], 0..200),
            copies in 1..1000_usize,
            part in 1..70_000_usize,
        ) {
            let bytes = bytes.repeat(copies);

            prop_assert!(prefixed(bytes.chunks(part)) == prefixed([&bytes[..]]));
        }

        #[test]
        fn no_byte_is_lost_and_no_line_exceeds_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            copies in 1..1000_usize,
        ) {
            let bytes = bytes.repeat(copies);

            let lines = prefixed([&bytes[..]]);

            let mut without = Vec::<u8>::new();
            for line in lines.split_inclusive(|it| *it == b'\n') {
                let line = line.strip_prefix(b"[it] ").expect("every line has the prefix");
                prop_assert!(line.len() <= LONGEST + 1);
                without.extend(line.iter().filter(|it| **it != b'\n'));
            }
            let text: Vec<_> = bytes.iter().copied().filter(|it| *it != b'\n').collect();
            prop_assert!(without == text);
        }
    }
}
