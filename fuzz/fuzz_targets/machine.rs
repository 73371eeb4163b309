//! One end of a connection as a state machine, whose peer sends arbitrary frames: it neither panics,
//! leaves anything behind, nor buffers more than the protocol's limits allow.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rpc_parallel_runtime::fuzzing::drive_machine(bytes));
