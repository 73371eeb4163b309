//! The last lines that a worker wrote.

/// How much is remembered of what a worker wrote.
const KEPT_BYTES: usize = 4 * 1024;
const KEPT_LINES: usize = 20;

/// The last lines that a worker wrote.
#[derive(Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // Not each time: what stays is moved.
        if self.0.len() > 2 * KEPT_BYTES {
            self.0.drain(..self.0.len() - KEPT_BYTES);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let surplus = self.0.len().saturating_sub(KEPT_BYTES);
        let text = String::from_utf8_lossy(&self.0[surplus..]);
        let lines = text.lines().skip(surplus.min(1)).skip_while(|it| it.trim().is_empty());
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        lines[lines.len().saturating_sub(KEPT_LINES)..].to_vec()
    }
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
    fn the_last_twenty_lines_are_remembered() {
        let written: Vec<_> = (0..10_000).map(|it| format!("line {it}\n")).collect();

        let last = lines(written.iter().map(|it| &**it));

        let expected: Vec<_> = (9980..10_000).map(|it| format!("line {it}")).collect();
        assert_eq!(last, expected);
        assert_eq!(lines(["\n\none\n", "tw", "o"]), ["one", "two"]);
    }

    #[test]
    fn a_line_whose_beginning_is_forgotten_is_left_out() {
        let long = "x".repeat(KEPT_BYTES);

        assert_eq!(lines([&long, "\nlast\n"]), ["last"]);
        assert_eq!(lines([&*long, &*long]), [] as [&str; 0]);
    }
}
