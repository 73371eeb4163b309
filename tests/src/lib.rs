//! What the tests have in common: worker types in a crate of their own, and what a test asks of
//! the system.

pub mod process;
pub mod program;
