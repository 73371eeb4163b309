//! `#[rpc_parallel::test]` under the usual test harness, however it is told what to run.
//!
//! The tests that are ignored are started by others here, in a process of their own.

use std::process::Command;

use rpc_parallel::expert::{Initialized, initialized, is_worker};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::{Ended, Program};

#[rpc_parallel::worker]
trait Speaks {
    fn say(&self, text: &str);
    fn double(&self, number: u32) -> u32;
    fn is_worker(&self) -> bool;
    async fn double_by_another(&self, number: u32) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Speaker;

#[rpc_parallel::worker]
impl Speaks for Speaker {
    fn say(&self, text: &str) {
        println!("{text}");
    }

    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn is_worker(&self) -> bool {
        is_worker()
    }

    async fn double_by_another(&self, number: u32) -> Result<u32, AnyError> {
        Ok(Speaker::spawn(()).await?.double(number).await?)
    }
}

async fn double(number: u32) -> u32 {
    let speaker = Speaker::spawn(()).await.expect("start a worker");
    speaker.double(number).await.expect("call it")
}

#[rpc_parallel::test]
async fn an_async_test_starts_workers() {
    assert_eq!(double(2).await, 4);
}

#[rpc_parallel::test]
fn a_test_that_is_not_async_starts_workers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

    let doubled = runtime.expect("make a runtime").block_on(double(2));

    assert_eq!(doubled, 4);
}

#[rpc_parallel::test]
async fn a_test_with_a_result_starts_workers() -> anyhow::Result<()> {
    let speaker = Speaker::spawn(()).await?;

    anyhow::ensure!(speaker.double(2).await? == 4);
    Ok(())
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn a_test_on_several_threads_starts_workers() {
    let doubled = tokio::spawn(double(2)).await;

    assert_eq!(doubled.expect("it does not panic"), 4);
}

#[rpc_parallel::test]
async fn a_worker_of_a_test_starts_workers() {
    let speaker = Speaker::spawn(()).await.expect("start a worker");

    assert_eq!(speaker.double_by_another(2).await, Ok(4));
}

#[rpc_parallel::test]
async fn a_test_is_no_worker() {
    let speaker = Speaker::spawn(()).await.expect("start a worker");

    assert!(!is_worker());
    assert_eq!(speaker.is_worker().await, Ok(true));
}

#[rpc_parallel::test]
#[should_panic(expected = "four is not five")]
async fn a_test_that_should_panic_starts_workers() {
    assert_eq!(double(2).await, 5, "four is not five");
}

#[rpc_parallel::test]
async fn r#match() {
    assert_eq!(double(2).await, 4);
}

mod nested {
    mod deeper {
        #[rpc_parallel::test]
        async fn a_test_in_a_module_starts_workers() {
            assert_eq!(crate::double(2).await, 4);
        }
    }
}

mod in_parallel {
    macro_rules! tests {
        ($($name:ident)*) => {$(
            #[rpc_parallel::test]
            async fn $name() {
                assert_eq!(crate::double(2).await, 4);
            }
        )*};
    }

    tests!(one two three four five six);
}

mod ignored {
    use super::*;

    #[rpc_parallel::test]
    #[ignore = "another test starts it"]
    async fn an_ignored_test_starts_workers() {
        assert_eq!(double(2).await, 4);
    }

    #[rpc_parallel::test]
    #[ignore = "another test starts it"]
    async fn a_worker_speaks() {
        let speaker = Speaker::spawn(()).await.expect("start a worker");
        speaker.say("a word from a worker").await.expect("call it");
    }
}

/// Tests of each kind, which libtest runs in this order in one thread.
mod order {
    use super::*;

    fn plain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let doubled = runtime.expect("make a runtime").block_on(double(2));

        assert_eq!(doubled, 4);
        assert_eq!(initialized().map(Initialized::is_worker), Some(false));
    }

    #[test]
    fn a_plain_test_starts_workers() {
        plain();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn b_tokio_test_starts_workers() {
        let doubled = tokio::spawn(double(2)).await;

        assert_eq!(doubled.expect("it does not panic"), 4);
    }

    #[rpc_parallel::test]
    async fn c_registered_test_starts_workers() {
        assert_eq!(double(2).await, 4);
    }

    #[test]
    fn d_plain_test_starts_workers() {
        plain();
    }

    #[test]
    fn e_plain_test_can_start_workers_before_any_starts() {
        assert_eq!(initialized().map(Initialized::is_worker), Some(false));
    }
}

/// Runs this very test binary with other arguments.
fn run(args: &[&str]) -> Ended {
    let own = std::env::current_exe().expect("there is a /proc");
    Program::run(Command::new(own).args(args))
}

fn summary(ended: &Ended) -> &str {
    let mut lines = ended.stdout.iter().filter_map(|it| it.strip_prefix("test result: "));
    let summary = lines.next().unwrap_or_else(|| panic!("{ended:?}"));
    assert_eq!(lines.next(), None, "{ended:?}");
    summary
}

#[test]
fn a_filter_runs_what_it_says() {
    let ended = run(&["in_a_module"]);

    assert!(summary(&ended).starts_with("ok. 1 passed; 0 failed; 0 ignored"), "{ended:?}");
}

#[test]
fn an_ignored_test_runs_when_it_is_asked_for() {
    for ask in ["--ignored", "--include-ignored"] {
        let ended = run(&["ignored::an_ignored", ask]);

        assert!(summary(&ended).starts_with("ok. 1 passed; 0 failed; 0 ignored"), "{ended:?}");
    }
    let ended = run(&["ignored::an_ignored"]);
    assert!(summary(&ended).starts_with("ok. 0 passed; 0 failed; 1 ignored"), "{ended:?}");
}

#[test]
fn tests_run_in_as_many_threads_as_one_likes() {
    for threads in ["--test-threads=1", "--test-threads=6"] {
        let ended = run(&["in_parallel", threads]);

        assert!(summary(&ended).starts_with("ok. 6 passed; 0 failed"), "{ended:?}");
    }
}

#[test]
fn the_list_of_tests_is_a_list_of_tests() {
    let ended = run(&["--list", "--format", "terse"]);

    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.iter().all(|it| it.ends_with(": test")), "{ended:?}");
    let name = "nested::deeper::a_test_in_a_module_starts_workers: test";
    assert!(ended.stdout.iter().any(|it| it == name), "{ended:?}");
}

#[test]
fn a_worker_adds_only_its_own_words_to_the_output() {
    for arguments in [
        &["ignored::a_worker_speaks", "--exact", "--ignored"][..],
        &["a_worker_speaks", "--include-ignored", "--nocapture"],
        &["a_worker_speaks", "--ignored", "--quiet"],
    ] {
        let ended = run(arguments);

        // What the harness itself says of one test, in one process.
        let spoken = |it: &&String| it.contains("a word from a worker");
        assert_eq!(ended.stdout.iter().filter(spoken).count(), 1, "{ended:?}");
        let running = ended.stdout.iter().filter(|it| *it == "running 1 test");
        assert_eq!(running.count(), 1, "{ended:?}");
        assert!(summary(&ended).starts_with("ok. 1 passed"), "{ended:?}");
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn plain_tests_start_workers_alone_and_in_any_company() {
    let names = ["a_plain", "b_tokio", "c_registered", "d_plain", "e_plain"];
    for name in names {
        let ended = run(&[&format!("order::{name}"), "--test-threads=1"]);

        assert!(summary(&ended).starts_with("ok. 1 passed; 0 failed"), "{ended:?}");
    }
    // A pair in one thread, and all of them in one or several.
    for filters in [
        &["order::a_plain", "order::c_registered", "--test-threads=1"][..],
        &["order::c_registered", "order::d_plain", "--test-threads=1"],
    ] {
        let ended = run(filters);

        assert!(summary(&ended).starts_with("ok. 2 passed; 0 failed"), "{ended:?}");
    }
    for threads in ["--test-threads=1", "--test-threads=5"] {
        let ended = run(&["order::", threads]);

        assert!(summary(&ended).starts_with("ok. 5 passed; 0 failed"), "{ended:?}");
    }
    let name = "order::d_plain_test_starts_workers";
    let ended = run(&[name, "--exact", "--nocapture"]);
    assert!(summary(&ended).starts_with("ok. 1 passed; 0 failed"), "{ended:?}");
}

#[test]
fn a_test_binary_lists_its_worker_types_like_any_program() {
    let own = std::env::current_exe().expect("there is a /proc");
    let mut command = Command::new(own);

    let ended = Program::run(command.args(["an_async_test"]).env("RPC_PARALLEL_LIST", "1"));

    assert!(ended.stdout.iter().any(|it| it.ends_with("harness::Speaker: Speaks")), "{ended:?}");
}
