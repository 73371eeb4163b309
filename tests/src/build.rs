//! Programs that a test builds in its own way.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program of this package with further arguments of cargo, and returns where it is.
///
/// All such builds share one target directory, beside that of the tests.
///
/// # Panics
///
/// It cannot be built.
#[must_use]
pub fn build(target: &Path, program: &str, profile: &str, args: &[&str]) -> PathBuf {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    cargo_build(target, package, &[&["--bin", program, "--profile", profile], args].concat())
        .join(if profile == "dev" { "debug" } else { profile })
        .join(program)
}

/// Returns where an example of the workspace is. It is built unless it was built with the tests.
///
/// # Panics
///
/// It cannot be built.
#[must_use]
pub fn example(target: &Path, name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("there is a /proc");
    let beside = own.ancestors().nth(2).map(|it| it.join("examples").join(name));
    if let Some(built) = beside.filter(|it| it.exists()) {
        return built;
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    cargo_build(target, workspace, &["--package", "rpc-parallel", "--example", name])
        .join("debug/examples")
        .join(name)
}

fn cargo_build(target: &Path, manifest: &str, args: &[&str]) -> PathBuf {
    let target = target.join("builds");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--offline", "--manifest-path", manifest]).args(args);
    command.arg("--target-dir").arg(&target);

    let output = command.output().unwrap_or_else(|it| panic!("start {command:?}: {it}"));

    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{told}");
    target
}
