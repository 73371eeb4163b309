//! Compiles every file of `fail` and `pass`.

use std::env;
use std::io::{self, Write};
use std::process::Command;

/// The compiler whose words the `.stderr` files hold: other versions say the same differently.
const WRITTEN_FOR: &str = "rustc 1.95.";

#[test]
fn right_programs_compile() {
    trybuild::TestCases::new().pass("pass/*.rs");
}

#[test]
fn each_mistake_is_one_error_with_its_cure() {
    let compiler = compiler();
    if !compiler.starts_with(WRITTEN_FOR) {
        // Not by `println!`, which libtest keeps to itself unless the test fails.
        let why =
            format!("skipped: the messages are those of {WRITTEN_FOR}*, this is {compiler}\n");
        io::stderr().write_all(why.as_bytes()).expect("there is a stderr");
        return;
    }
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}

/// Returns the name and version of the compiler that trybuild starts.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("cargo has found it");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
