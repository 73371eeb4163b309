//! Tests of one executable that ask for different settings of workers: each of them fails, alone and
//! together.
//!
//! The ignored tests are run by the others, in a process of their own.

use std::process::Command;

use rpc_parallel::Settings;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::script::Script;

mod conflicting {
    use super::*;

    #[test]
    #[ignore = "another test runs it"]
    fn plain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let spawned = runtime.expect("build a runtime").block_on(Fixture::spawn(Script::default()));

        spawned.map(drop).unwrap_or_else(|it| panic!("{it}"));
    }

    #[rpc_parallel::test(settings = Settings::default().with_max_message_size(2000))]
    #[ignore = "another test runs it"]
    async fn small() {}

    #[rpc_parallel::test(settings = Settings::default().with_max_message_size(3000))]
    #[ignore = "another test runs it"]
    async fn large() {}

    #[test]
    #[ignore = "another test runs it"]
    fn without_workers() {}
}

/// Runs tests of this executable.
fn run(args: &[&str]) -> ProgramOutput {
    let own = std::env::current_exe().expect("/proc is mounted");
    Program::run(Command::new(own).args(args).args(["--ignored", "--test-threads=1"]))
}

#[test]
fn tests_with_conflicting_settings_fail_alone_and_together() {
    for (filter, failed) in [
        ("conflicting::plain", 1),
        ("conflicting::small", 1),
        ("conflicting::large", 1),
        ("conflicting::", 3),
    ] {
        let output = run(&[filter]);

        let stdout = output.stdout.join("\n");
        let passed = if failed == 3 { 1 } else { 0 };
        let summary = format!("test result: FAILED. {passed} passed; {failed} failed");
        assert!(stdout.contains(&summary), "{stdout}");
        let error = "the tests `differing_tests::conflicting::large` and \
                     `differing_tests::conflicting::small` ask for different settings, flavors or \
                     logs of workers: give all";
        assert_eq!(stdout.matches(error).count(), failed, "{stdout}");
    }
}

#[test]
fn tests_without_workers_pass_beside_conflicting_tests() {
    let output = run(&["conflicting::without_workers"]);

    assert!(output.status.success(), "{output:?}");
}
