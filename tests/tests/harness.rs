//! `#[rpc_parallel::test]` under the usual test harness, however it is told what to run.
//!
//! The tests that are ignored are started by others here, in a process of their own.

use std::process::Command;

use rpc_parallel::prelude::*;
use rpc_parallel::{SpawnErrorKind, is_worker};
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

    #[test]
    #[ignore = "another test starts it: where workers have been started already, it would work"]
    fn a_plain_test_spawns() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let spawned = runtime.expect("make a runtime").block_on(Speaker::spawn(()));

        let error = spawned.expect_err("nothing has made this process a master");
        assert!(matches!(error.kind(), SpawnErrorKind::NotInitialized));
        println!("{error}");
    }

    mod with_other_settings {
        use rpc_parallel::Settings;

        #[rpc_parallel::test(settings = Settings::default().with_max_message_size(2000))]
        #[ignore = "another test starts it"]
        async fn small() {
            assert_eq!(crate::double(2).await, 4);
        }

        #[rpc_parallel::test(settings = Settings::default().with_max_message_size(3000))]
        #[ignore = "another test starts it"]
        async fn large() {
            assert_eq!(crate::double(2).await, 4);
        }
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
fn a_plain_test_that_spawns_is_told_the_cure() {
    let ended = run(&["ignored::a_plain_test_spawns", "--exact", "--ignored", "--nocapture"]);

    assert!(summary(&ended).starts_with("ok. 1 passed"), "{ended:?}");
    let told = ended.stdout.join("\n");
    assert!(told.contains("`#[rpc_parallel::test]` instead of `#[test]`"), "{told}");
}

#[test]
fn tests_with_other_settings_fail_instead_of_running_with_the_wrong_ones() {
    let ended = run(&["with_other_settings", "--ignored"]);

    assert!(summary(&ended).starts_with("FAILED. 1 passed; 1 failed"), "{ended:?}");
    let told = ended.stdout.join("\n");
    assert!(told.contains("has begun with other settings of workers"), "{told}");
}

#[test]
fn a_test_binary_lists_its_worker_types_like_any_program() {
    let own = std::env::current_exe().expect("there is a /proc");
    let mut command = Command::new(own);

    let ended = Program::run(command.args(["an_async_test"]).env("RPC_PARALLEL_LIST", "1"));

    assert!(ended.stdout.iter().any(|it| it.ends_with("harness::Speaker: Speaks")), "{ended:?}");
}
