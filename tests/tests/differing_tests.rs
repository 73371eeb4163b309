//! `#[rpc_parallel::test]`s of one executable that ask for different workers: each of them fails,
//! alone and in any order.
//!
//! The tests that are ignored are started by the others, in a process of their own.

use std::process::Command;

use rpc_parallel::Settings;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::{Ended, Program};

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

mod asking {
    use super::*;

    #[test]
    #[ignore = "another test starts it"]
    fn plain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let spawned = runtime.expect("make a runtime").block_on(Nobody::spawn(()));

        spawned.map(drop).unwrap_or_else(|it| panic!("{it}"));
    }

    #[rpc_parallel::test(settings = Settings::default().with_max_message_size(2000))]
    #[ignore = "another test starts it"]
    async fn small() {}

    #[rpc_parallel::test(settings = Settings::default().with_max_message_size(3000))]
    #[ignore = "another test starts it"]
    async fn large() {}

    #[test]
    #[ignore = "another test starts it"]
    fn without_workers() {}
}

/// Runs tests of this executable.
fn run(args: &[&str]) -> Ended {
    let own = std::env::current_exe().expect("there is a /proc");
    Program::run(Command::new(own).args(args).args(["--ignored", "--test-threads=1"]))
}

#[test]
fn tests_that_ask_for_different_workers_fail_alone_and_together() {
    for (filter, failed) in
        [("asking::plain", 1), ("asking::small", 1), ("asking::large", 1), ("asking::", 3)]
    {
        let ended = run(&[filter]);

        let told = ended.stdout.join("\n");
        let passed = if failed == 3 { 1 } else { 0 };
        let summary = format!("test result: FAILED. {passed} passed; {failed} failed");
        assert!(told.contains(&summary), "{told}");
        let why = "the tests `differing_tests::asking::large` and `differing_tests::asking::small` \
                   ask for different settings, flavors or logs of workers; give all";
        assert_eq!(told.matches(why).count(), failed, "{told}");
    }
}

#[test]
fn tests_that_start_no_workers_pass_beside_them() {
    let ended = run(&["asking::without_workers"]);

    assert!(ended.status.success(), "{ended:?}");
}
