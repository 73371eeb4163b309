//! What the compiler says about wrong programs, and that right ones compile.
//!
//! One file for each mistake in `fail`, named after what is wrong, with what the compiler says
//! about it beside it; one file for each thing that must work in `pass`.
