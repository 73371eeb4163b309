//! `#[rpc_parallel::test]` with the standard test harness, its filters and its options.
//!
//! The ignored tests are run by others, in a process of their own.

use std::process::Command;

use rpc_parallel::expert::{Initialized, initialized, is_worker};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::SpawnOk as _;

#[rpc_parallel::worker]
trait Probe {
    fn print(&self, text: &str);
    fn double(&self, number: u32) -> u32;
    fn is_worker(&self) -> bool;
    async fn double_in_own_worker(&self, number: u32) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct ProbeWorker;

#[rpc_parallel::worker]
impl Probe for ProbeWorker {
    fn print(&self, text: &str) {
        println!("{text}");
    }

    fn double(&self, number: u32) -> u32 {
        2 * number
    }

    fn is_worker(&self) -> bool {
        is_worker()
    }

    async fn double_in_own_worker(&self, number: u32) -> Result<u32, AnyError> {
        Ok(ProbeWorker::spawn(()).await?.double(number).await?)
    }
}

async fn double(number: u32) -> u32 {
    let probe = ProbeWorker::spawn_ok(()).await;
    probe.double(number).await.expect("the call succeeds")
}

#[rpc_parallel::test]
async fn async_test_starts_workers() {
    assert_eq!(double(2).await, 4);
}

#[rpc_parallel::test]
fn sync_test_starts_workers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

    let doubled = runtime.expect("build a runtime").block_on(double(2));

    assert_eq!(doubled, 4);
}

#[rpc_parallel::test]
async fn test_returning_result_starts_workers() -> anyhow::Result<()> {
    let probe = ProbeWorker::spawn(()).await?;

    anyhow::ensure!(probe.double(2).await? == 4);
    Ok(())
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn multi_thread_test_starts_workers() {
    let doubled = tokio::spawn(double(2)).await;

    assert_eq!(doubled.expect("the task does not panic"), 4);
}

#[rpc_parallel::test]
async fn worker_of_test_starts_workers() {
    let probe = ProbeWorker::spawn_ok(()).await;

    assert_eq!(probe.double_in_own_worker(2).await, Ok(4));
}

#[rpc_parallel::test]
async fn test_process_is_not_worker() {
    let probe = ProbeWorker::spawn_ok(()).await;

    assert!(!is_worker());
    assert_eq!(probe.is_worker().await, Ok(true));
}

#[rpc_parallel::test]
#[should_panic(expected = "four is not five")]
async fn should_panic_test_starts_workers() {
    assert_eq!(double(2).await, 5, "four is not five");
}

#[rpc_parallel::test]
async fn r#match() {
    assert_eq!(double(2).await, 4);
}

mod nested {
    mod deeper {
        #[rpc_parallel::test]
        async fn test_in_module_starts_workers() {
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
    #[ignore = "another test runs it"]
    async fn ignored_test_starts_workers() {
        assert_eq!(double(2).await, 4);
    }

    #[rpc_parallel::test]
    #[ignore = "another test runs it"]
    async fn worker_prints_line() {
        let probe = ProbeWorker::spawn_ok(()).await;
        probe.print("a line of a worker").await.expect("the call succeeds");
    }
}

/// Tests of each kind. With one thread, libtest runs them in this order.
mod order {
    use super::*;

    fn plain() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let doubled = runtime.expect("build a runtime").block_on(double(2));

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

        assert_eq!(doubled.expect("the task does not panic"), 4);
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
    fn e_plain_test_is_master_without_starting_workers() {
        assert_eq!(initialized().map(Initialized::is_worker), Some(false));
    }
}

/// Runs this test executable with these arguments.
fn run(args: &[&str]) -> ProgramOutput {
    let own = std::env::current_exe().expect("/proc is mounted");
    Program::run(Command::new(own).args(args))
}

fn summary(output: &ProgramOutput) -> &str {
    let mut lines = output.stdout.iter().filter_map(|it| it.strip_prefix("test result: "));
    let summary = lines.next().unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!(lines.next(), None, "{output:?}");
    summary
}

#[test]
fn filter_selects_registered_tests() {
    let output = run(&["in_module"]);

    assert!(summary(&output).starts_with("ok. 1 passed; 0 failed; 0 ignored"), "{output:?}");
}

#[test]
fn ignored_test_runs_on_request() {
    for ask in ["--ignored", "--include-ignored"] {
        let output = run(&["ignored::ignored_test", ask]);

        assert!(summary(&output).starts_with("ok. 1 passed; 0 failed; 0 ignored"), "{output:?}");
    }
    let output = run(&["ignored::ignored_test"]);
    assert!(summary(&output).starts_with("ok. 0 passed; 0 failed; 1 ignored"), "{output:?}");
}

#[test]
fn registered_tests_run_in_one_or_many_threads() {
    for threads in ["--test-threads=1", "--test-threads=6"] {
        let output = run(&["in_parallel", threads]);

        assert!(summary(&output).starts_with("ok. 6 passed; 0 failed"), "{output:?}");
    }
}

#[test]
fn test_list_contains_only_tests() {
    let output = run(&["--list", "--format", "terse"]);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, "");
    assert!(output.stdout.iter().all(|it| it.ends_with(": test")), "{output:?}");
    let name = "nested::deeper::test_in_module_starts_workers: test";
    assert!(output.stdout.iter().any(|it| it == name), "{output:?}");
}

#[test]
fn worker_adds_only_its_own_output() {
    for arguments in [
        &["ignored::worker_prints_line", "--exact", "--ignored"][..],
        &["worker_prints_line", "--include-ignored", "--nocapture"],
        &["worker_prints_line", "--ignored", "--quiet"],
    ] {
        let output = run(arguments);

        // The harness reports one test in one process.
        let printed = |it: &&String| it.contains("a line of a worker");
        assert_eq!(output.stdout.iter().filter(printed).count(), 1, "{output:?}");
        let running = output.stdout.iter().filter(|it| *it == "running 1 test");
        assert_eq!(running.count(), 1, "{output:?}");
        assert!(summary(&output).starts_with("ok. 1 passed"), "{output:?}");
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn plain_tests_start_workers_alone_and_beside_others() {
    let names = ["a_plain", "b_tokio", "c_registered", "d_plain", "e_plain"];
    for name in names {
        let output = run(&[&format!("order::{name}"), "--test-threads=1"]);

        assert!(summary(&output).starts_with("ok. 1 passed; 0 failed"), "{output:?}");
    }
    // Pairs in one thread, and all of them in one or five threads.
    for filters in [
        &["order::a_plain", "order::c_registered", "--test-threads=1"][..],
        &["order::c_registered", "order::d_plain", "--test-threads=1"],
    ] {
        let output = run(filters);

        assert!(summary(&output).starts_with("ok. 2 passed; 0 failed"), "{output:?}");
    }
    for threads in ["--test-threads=1", "--test-threads=5"] {
        let output = run(&["order::", threads]);

        assert!(summary(&output).starts_with("ok. 5 passed; 0 failed"), "{output:?}");
    }
    let name = "order::d_plain_test_starts_workers";
    let output = run(&[name, "--exact", "--nocapture"]);
    assert!(summary(&output).starts_with("ok. 1 passed; 0 failed"), "{output:?}");
}

#[test]
fn test_executable_lists_its_worker_types() {
    let own = std::env::current_exe().expect("/proc is mounted");
    let mut command = Command::new(own);

    let output =
        Program::run(command.args(["async_test_starts_workers"]).env("RPC_PARALLEL_LIST", "1"));

    assert!(
        output.stdout.iter().any(|it| it.ends_with("harness::ProbeWorker: Probe")),
        "{output:?}"
    );
}
