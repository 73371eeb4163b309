//! Builds of programs with arguments that a test chooses.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program of this package with more cargo arguments and returns its path.
///
/// All such builds share a target directory beside that of the tests.
///
/// # Panics
///
/// Panics if the build fails.
#[must_use]
pub fn build(target: &Path, program: &str, profile: &str, args: &[&str]) -> PathBuf {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    cargo_build(target, package, &[&["--bin", program, "--profile", profile], args].concat())
        .join(if profile == "dev" { "debug" } else { profile })
        .join(program)
}

/// Returns the path of an example of the workspace. Builds the example unless it was built with
/// the tests.
///
/// # Panics
///
/// Panics if the build fails.
#[must_use]
pub fn example(target: &Path, name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("read /proc/self/exe");
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

    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{stderr}");
    target
}
