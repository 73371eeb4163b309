//! Programs of this package that a test builds in its own way.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program with further arguments of cargo, and returns where it is.
///
/// All such builds share one target directory, beside that of the tests.
///
/// # Panics
///
/// It cannot be built.
#[must_use]
pub fn build(target: &Path, program: &str, profile: &str, args: &[&str]) -> PathBuf {
    let target = target.join("builds");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--offline", "--bin", program, "--profile", profile])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .arg("--target-dir")
        .arg(&target)
        .args(args);

    let output = command.output().unwrap_or_else(|it| panic!("start {command:?}: {it}"));

    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{told}");
    target.join(if profile == "dev" { "debug" } else { profile }).join(program)
}
