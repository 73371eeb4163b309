//! Formats values into texts of a limited length.

use std::fmt;

/// A budget in bytes for several texts.
pub(super) struct Text {
    left: usize,
    cut: usize,
    text: String,
}

impl Text {
    /// Creates a budget for texts of `left` bytes in total.
    pub(super) fn within(left: usize) -> Self {
        Self { left, cut: 0, text: String::new() }
    }

    /// Formats a value. A text beyond the budget is truncated, and ends with the number of missing
    /// bytes.
    pub(super) fn of(&mut self, value: fmt::Arguments<'_>) -> String {
        // A value whose formatting fails is truncated there.
        let _ = fmt::write(self, value);
        let mut text = std::mem::take(&mut self.text);
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            text.push_str(&format!(".. ({cut} bytes more)"));
        }
        text
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // After a cut no more pieces are kept: they would appear to follow the kept text.
        let mut fits = if self.cut > 0 { 0 } else { piece.len().min(self.left) };
        while !piece.is_char_boundary(fits) {
            fits -= 1;
        }
        let (kept, cut) = piece.split_at(fits);
        self.text.push_str(kept);
        self.left -= kept.len();
        self.cut += cut.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_text_states_missing_length() {
        let mut text = Text::within(5);

        let texts = [
            text.of(format_args!("{}", "ab")),
            text.of(format_args!("c{}f", "dé")),
            text.of(format_args!("{:?}", [7; 3])),
        ];

        assert_eq!(texts, ["ab", "cd.. (3 bytes more)", "[.. (8 bytes more)"]);
    }
}
