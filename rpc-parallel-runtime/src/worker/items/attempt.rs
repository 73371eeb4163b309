//! The number of the attempt to run the item that this thread runs.

use std::cell::Cell;

thread_local! {
    static ATTEMPT: Cell<u32> = const { Cell::new(0) };
}

/// Returns how many workers have died while they ran the current item of a map.
///
/// It is 0 in the first attempt of an item, and outside of items. A function can use it to run an
/// item with more care, or to skip it, after the item has killed a worker.
///
/// The value belongs to the code that runs in the item itself. Tasks and threads that the item
/// starts read 0. A function with a context reads the same from
/// [`Context::attempt`](crate::Context::attempt).
///
/// ```
/// /// Counts the words of a file, of a damaged one only in its first half.
/// fn count_words(text: &str) -> usize {
///     let half = text.len() / 2;
///     let text = if rpc_parallel::pool::attempt() > 0 { text.get(..half).unwrap_or("") } else { text };
///     text.split_whitespace().count()
/// }
///
/// assert_eq!(count_words("one two"), 2);
/// ```
#[must_use]
pub fn attempt() -> u32 {
    ATTEMPT.get()
}

/// Runs a closure as part of an attempt to run an item.
pub(super) fn within_attempt<T>(attempt: u32, run: impl FnOnce() -> T) -> T {
    /// Restores the outer value when it is dropped, also by a panic.
    struct Outer(u32);
    impl Drop for Outer {
        fn drop(&mut self) {
            ATTEMPT.set(self.0);
        }
    }
    let _outer = Outer(ATTEMPT.replace(attempt));
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_is_restored_after_panic() {
        let panicked = std::panic::catch_unwind(|| {
            within_attempt(2, || assert_eq!(attempt(), 3));
        });

        assert!(panicked.is_err());
        assert_eq!(attempt(), 0);
        assert_eq!(within_attempt(2, attempt), 2);
    }
}
