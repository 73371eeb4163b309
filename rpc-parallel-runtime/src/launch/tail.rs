//! The last lines that a worker wrote to its stderr.

/// The limits of the kept output.
const KEPT_BYTES: usize = 4 * 1024;
const KEPT_LINES: usize = 20;

/// The first line of the backtrace that std's panic hook prints.
const BACKTRACE: &[u8] = b"stack backtrace:\n";

/// The last lines that a worker wrote to its stderr.
///
/// The frames of backtraces are left out: otherwise the lines that the application wrote before a
/// panic would be lost under `RUST_BACKTRACE=1`.
#[derive(Default)]
pub(super) struct Tail {
    kept: Vec<u8>,
    /// The beginning of a line whose end has not been written yet.
    line: Vec<u8>,
    in_backtrace: bool,
}

impl Tail {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|it| *it == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line();
            } else if self.line.len() > KEPT_BYTES {
                // A longer line is left out of the kept lines.
                self.keep_line();
            }
        }
    }

    fn end_line(&mut self) {
        self.in_backtrace = self.line == BACKTRACE || self.in_backtrace && is_frame(&self.line);
        if self.in_backtrace && self.line != BACKTRACE {
            self.line.clear();
        } else {
            self.keep_line();
        }
    }

    fn keep_line(&mut self) {
        self.kept.append(&mut self.line);
        // Not at every line, because it moves all kept bytes.
        if self.kept.len() > 2 * KEPT_BYTES {
            self.kept.drain(..self.kept.len() - KEPT_BYTES);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let bytes = [&self.kept[..], &self.line].concat();
        let surplus = bytes.len().saturating_sub(KEPT_BYTES);
        let text = String::from_utf8_lossy(&bytes[surplus..]);
        let lines = text.lines().skip(surplus.min(1)).skip_while(|it| it.trim().is_empty());
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        lines[lines.len().saturating_sub(KEPT_LINES)..].to_vec()
    }
}

/// Returns whether a line of a backtrace is a frame, or the location of one: `  12: name`, or
/// `             at file:line:column`.
fn is_frame(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    if text.len() == line.len() {
        return false;
    }
    let digits = text.iter().take_while(|it| it.is_ascii_digit()).count();
    text.starts_with(b"at ") || (digits > 0 && text[digits..].starts_with(b":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut tail = Tail::default();
        parts.into_iter().for_each(|it| tail.add(it.as_bytes()));
        tail.lines()
    }

    #[test]
    fn last_twenty_lines_are_kept() {
        let written: Vec<_> = (0..10_000).map(|it| format!("line {it}\n")).collect();

        let last = lines(written.iter().map(|it| &**it));

        let expected: Vec<_> = (9980..10_000).map(|it| format!("line {it}")).collect();
        assert_eq!(last, expected);
        assert_eq!(lines(["\n\none\n", "tw", "o"]), ["one", "two"]);
    }

    #[test]
    fn line_longer_than_limit_is_left_out() {
        let long = "x".repeat(KEPT_BYTES);

        assert_eq!(lines([&long, "\nlast\n"]), ["last"]);
        assert_eq!(lines([&*long, &*long]), [] as [&str; 0]);
    }

    #[test]
    fn frames_of_backtrace_are_left_out() {
        let frames: String = (0..60)
            .map(|it| format!("{it:4}: bank::ledger::open\n             at ./src/ledger.rs:7:9\n"))
            .collect();
        let panic = "thread 'main' panicked at src/ledger.rs:7:9:\nno such account\n";
        let written =
            format!("opening the ledger\n{panic}stack backtrace:\n{frames}note: Some details\n");

        // The lines do not depend on how the bytes are split.
        for len in [1, 7, 1000] {
            let parts: Vec<_> =
                written.as_bytes().chunks(len).map(|it| str::from_utf8(it)).collect();
            let parts = parts.into_iter().map(|it| it.expect("the text is ASCII"));

            let expected = [
                "opening the ledger",
                "thread 'main' panicked at src/ledger.rs:7:9:",
                "no such account",
                "stack backtrace:",
                "note: Some details",
            ];
            assert_eq!(lines(parts), expected);
        }
    }
}
