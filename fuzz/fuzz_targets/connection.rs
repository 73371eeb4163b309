//! A connection whose peer sends arbitrary frames: neither end panics, hangs, or buffers more than
//! the protocol's limits allow.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_parallel_runtime::fuzzing::converse(bytes));
