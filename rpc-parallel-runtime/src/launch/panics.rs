//! The effect of a panic inside a call.

use crate::wire::fields;

/// Whether a panic inside a call ends the worker.
///
/// A panic outside of any call always ends the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The panic fails the call. The worker and its connections keep running. This is the default.
    #[default]
    FailCall,
    /// The panic ends the worker with exit code 254, as a panic outside of any call does.
    ///
    /// Use it where a panic may leave the state of the worker inconsistent.
    EndWorker,
}

fields!(enum PanicPolicy { 0 => FailCall, 1 => EndWorker });
