//! Worker types of another crate are registered, also with fat LTO.

use std::path::Path;
use std::process::Command;

use rpc_parallel_tests::build::build;
use rpc_parallel_tests::program::Program;

#[test]
fn worker_type_of_another_crate_starts() {
    let output = Program::run(&mut Command::new(env!("CARGO_BIN_EXE_elsewhere")));

    assert_eq!(output.stdout, ["5"], "{output:?}");
}

#[test]
fn worker_type_of_another_crate_starts_with_fat_lto() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));

    let program = build(target, "elsewhere", "fat", &[]);
    let output = Program::run(&mut Command::new(program));

    assert_eq!(output.stdout, ["5"], "{output:?}");
}
