//! What generated code names, and nobody else.

pub use crate::__register as register;
pub use crate::__register_test as register_test;
pub use crate::connection::{
    Answer, AnyError, Call, CallError, Client, FunctionError, IntoPipe, IsResult, Pipe, TryCall,
    fallible, plain,
};
pub use crate::launch::RuntimeFlavor;
pub use crate::master::{Entry, FromArgs, IntoSettings, Test, from_args, settings};
pub use crate::wire::{
    Argument, Codec, FunctionInfo, Message, SourceLocation, Travels, WorkerTrait, assert_distinct,
    codec,
};
pub use crate::worker::{
    Arguments, BoxError, Context, DeclaredFunction, Declares, Dispatch, Handle, IsContext,
    OneWorkerTraitPerType, Registered, Scope, Served, Table, WorkerClient, WorkerState, WorkerType,
    asynchronous, boxed, call, context, pipe_codec, submit, synchronous, writer_codec,
};

/// Registers a worker type when the program starts.
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($worker_type:expr) => {
        $crate::__private::submit::submit! { $crate::__private::Registered($worker_type) }
    };
}

/// Registers a test when the program starts.
#[doc(hidden)]
#[macro_export]
macro_rules! __register_test {
    ($test:expr) => {
        $crate::__private::submit::submit! { $test }
    };
}
