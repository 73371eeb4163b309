//! Everything that decodes bytes of a stranger: no input panics, none allocates beyond its size.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_parallel_runtime::fuzzing::decode_everything(bytes));
