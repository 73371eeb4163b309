//! The text of errors: `Debug` prints what `Display` prints, and causes are printed once.
//!
//! Programs meet errors by `{error}`, by `expect` and by `-> Result` of `main` and tests. The last
//! two print `Debug`.

use std::error::Error;
use std::fmt;

/// Writes an error, and those of its sources whose text is not part of what is written already.
pub(crate) fn write_chain(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    new_causes(error).iter().try_for_each(|it| write!(f, ": {it}"))
}

/// Returns the texts of an error's sources, the nearest first, without those that are part of the
/// text of the error or of a nearer source.
pub(crate) fn new_causes(error: &dyn Error) -> Vec<String> {
    let mut texts = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.contains(&text) {
            texts.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// Implements `Debug` of errors by [`write_chain`].
macro_rules! debug_as_display {
    ($($error:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::wire::write_chain(self, f)
            }
        }
    )+};
}

pub(crate) use debug_as_display;

#[cfg(test)]
mod tests {
    /// An error whose text contains that of its source, or does not.
    #[derive(thiserror::Error)]
    enum Failure {
        #[error("failed to read the ledger: {0}")]
        Inclusive(#[source] Cause),
        #[error("failed to read the ledger")]
        Exclusive(#[source] Cause),
    }

    #[derive(thiserror::Error)]
    #[error("the disk is full")]
    struct Cause;

    debug_as_display!(Failure, Cause);

    #[test]
    fn debug_prints_every_cause_once() {
        for failure in [Failure::Inclusive(Cause), Failure::Exclusive(Cause)] {
            assert_eq!(format!("{failure:?}"), "failed to read the ledger: the disk is full");
        }
    }
}
