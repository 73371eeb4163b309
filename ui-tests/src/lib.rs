//! Compile-time tests of the macros.
//!
//! `fail` has one program for each mistake, named after it, with the compiler's output beside it.
//! `pass` has programs that must compile. `tests/ui.rs` compiles both.
