//! A whole connection, whose peer says anything: neither end panics, waits for ever or keeps more
//! than the rules allow.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_parallel_runtime::fuzzing::converse(bytes));
