//! Worker types that the tests use, in a crate of their own.
