//! What `cargo test` and `cargo nextest` expect of a test executable.

use std::env;
use std::process::{Command, ExitCode};

/// A name, and a function that panics if the test fails.
pub type Test = (&'static str, fn());

/// Makes a list of tests from the names of their functions.
macro_rules! tests {
    ($($test:ident)*) => {
        pub const TESTS: &[crate::harness::Test] = &[$((stringify!($test), $test)),*];
    };
}
pub(crate) use tests;

/// Lists the tests, runs one, or runs each in a process of its own.
pub fn run(tests: &[Test]) -> ExitCode {
    // `--format` is the only option with a value that both pass.
    let args: Vec<String> = env::args().skip(1).filter(|it| it != "terse").collect();
    let has = |option: &str| args.iter().any(|it| it == option);
    let filters: Vec<_> = args.iter().filter(|it| !it.starts_with('-')).collect();
    let selected: Vec<_> = tests
        .iter()
        .filter(|(name, _)| {
            let matches = |filter: &&String| {
                if has("--exact") { *name == **filter } else { name.contains(&***filter) }
            };
            // No test is ignored.
            !has("--ignored") && (filters.is_empty() || filters.iter().any(matches))
        })
        .collect();

    if has("--list") {
        selected.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let ([(_, test)], true) = (&*selected, has("--exact")) {
        test();
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (name, _) in selected {
        let status = Command::new("/proc/self/exe").args([name, "--exact"]).status();
        let passed = status.expect("start this executable").success();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed |= !passed;
    }
    ExitCode::from(u8::from(failed))
}
