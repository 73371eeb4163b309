//! The C function `order_price` as a function of Rust.

use std::ffi::c_char;

unsafe extern "C" {
    /// Reads `length` bytes from `order`, and keeps no pointer to them.
    #[link_name = "order_price"]
    fn c_order_price(order: *const c_char, length: usize) -> u64;
}

/// Returns the price of an order in cents. Some orders end the process, or the function does not
/// return.
pub(crate) fn order_price(order: &str) -> u64 {
    // SAFETY: the pointer and the length are those of one slice, which lives until the function
    // returns. The mistakes in the C code write to no memory of this process: they read from a null
    // pointer, abort, loop or leak.
    unsafe { c_order_price(order.as_ptr().cast(), order.len()) }
}
