//! All decoders of bytes from a peer: no input panics, and no input allocates more than its size.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_parallel_runtime::fuzzing::decode_everything(bytes));
