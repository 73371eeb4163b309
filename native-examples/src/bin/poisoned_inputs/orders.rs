//! The orders that the program prices, and the outcome that each must have.

/// What the C function does with an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It returns this price, in cents.
    Price(u64),
    /// It reads from a null pointer, and SIGSEGV ends the process.
    Crash,
    /// It calls `abort`, and SIGABRT ends the process.
    Abort,
    /// It does not return.
    Hang,
}

/// Returns the order with this index, and its outcome. One order in 200 crashes the process, one in
/// 1,000 aborts it, and one in 1,000 hangs.
pub(crate) fn order(index: u64) -> (String, Outcome) {
    let (quantity, cents) = (1 + index % 90, 1 + index * 7 % 999);
    let outcome = if index % 200 == 71 {
        Outcome::Crash
    } else if index % 1000 == 400 {
        Outcome::Abort
    } else if index % 1000 == 805 {
        Outcome::Hang
    } else {
        Outcome::Price(3 * 45 + quantity * cents)
    };
    let order = match outcome {
        Outcome::Price(_) => format!("3*45;{quantity}*{cents}"),
        Outcome::Crash => format!("3*45;{quantity} at {cents}"),
        Outcome::Abort => format!("3*45;1000000*{cents}"),
        Outcome::Hang => format!("3*45;a dozen*{cents}"),
    };
    (order, outcome)
}
