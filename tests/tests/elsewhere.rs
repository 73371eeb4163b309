//! Worker types of another crate are there, however hard the linker tries to leave them out.

use std::path::Path;
use std::process::Command;

use rpc_parallel_tests::build::build;
use rpc_parallel_tests::program::Program;

#[test]
fn a_worker_of_another_crate_starts() {
    let ended = Program::run(&mut Command::new(env!("CARGO_BIN_EXE_elsewhere")));

    assert_eq!(ended.stdout, ["5"], "{ended:?}");
}

#[test]
fn a_worker_of_another_crate_starts_from_one_image_with_everything_inlined() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));

    let program = build(target, "elsewhere", "fat", &[]);
    let ended = Program::run(&mut Command::new(program));

    assert_eq!(ended.stdout, ["5"], "{ended:?}");
}
