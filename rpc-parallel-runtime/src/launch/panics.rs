//! What a panic inside a call does to its worker.

use crate::wire::fields;

/// What a panic inside a call does to its worker.
///
/// A panic outside of any call always ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// It is an error of the call. The worker and its connections live on.
    #[default]
    FailCall,
    /// It ends the worker with exit code 254, like one outside of any call: for states that cannot
    /// be trusted after a function was left half done.
    EndWorker,
}

fields!(enum PanicPolicy { 0 => FailCall, 1 => EndWorker });
