//! Process functions run in processes of their own: one for a call, or one for many calls.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rpc_parallel::error::{CallErrorKind, Execution, ExitReason, SpawnErrorKind};
use rpc_parallel::launch::ResourceLimit;
use rpc_parallel::prelude::*;
use rpc_parallel::process::RunError;
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::process::{ends, ends_within, is_gone, kill, stop};
use rpc_parallel_tests::process_functions::{line, plane};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::{elements, soon};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// A value that only this test knows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    title: String,
    words: Vec<u32>,
}

#[rpc_parallel::process]
fn pid() -> u32 {
    std::process::id()
}

#[rpc_parallel::process]
async fn count(page: &Page, (low, high): (u32, u32), mut extra: usize) -> usize {
    tokio::task::yield_now().await;
    extra += page.words.iter().filter(|it| (low..high).contains(it)).count();
    extra
}

#[rpc_parallel::process]
fn join(parts: &[String], between: &str) -> String {
    parts.join(between)
}

#[rpc_parallel::process]
fn parse(text: &str) -> Result<u32, AnyError> {
    Ok(text.parse()?)
}

type Parsed<T> = Result<T, String>;

#[rpc_parallel::process(result, id = "parse-page")]
async fn parse_page(title: String) -> Parsed<Page> {
    if title.is_empty() { Err("no title".to_owned()) } else { Ok(Page { title, words: vec![] }) }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Death {
    Panic,
    Exit(i32),
    Signal(i32),
    Abort,
    /// Not at all.
    Compute,
}

#[rpc_parallel::process]
fn die(death: Death) -> u32 {
    match death {
        Death::Panic => panic!("a planned panic"),
        Death::Exit(code) => std::process::exit(code),
        Death::Signal(signal) => {
            let signal = Signal::from_named_raw(signal).expect("the signal has a name");
            kill_process(getpid(), signal).expect("a process may signal itself");
        }
        Death::Abort => std::process::abort(),
        Death::Compute => {}
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Sends its process id and then does not return.
#[rpc_parallel::process]
async fn send_pid_and_wait(pids: PipeWriter<u32>) {
    pids.send(std::process::id()).await.expect("the reader is there");
    std::future::pending::<()>().await;
}

/// Writes its process id and then blocks its thread.
#[rpc_parallel::process]
fn send_pid_and_block(pids: PipeWriter<u32>) {
    pids.try_send(std::process::id()).expect("the pipe has room");
    loop {
        std::thread::park();
    }
}

const BLOCK: usize = 64 * 1024;

/// Writes 10 MB and returns at once.
#[rpc_parallel::process]
async fn write_blocks(blocks: PipeWriter<Vec<u8>>, count: usize) -> u32 {
    tokio::spawn(async move {
        for n in 0..count {
            let block = vec![u8::try_from(n % 256).expect("below 256"); BLOCK];
            blocks.send(block).await.expect("the reader reads");
        }
    });
    std::process::id()
}

#[rpc_parallel::process]
async fn doubles(numbers: Pipe<u64>) -> Pipe<u64> {
    let (writer, pipe) = Pipe::pair();
    tokio::spawn(async move {
        let mut numbers = numbers;
        while let Some(Ok(number)) = numbers.next().await {
            if writer.send(2 * number).await.is_err() {
                return;
            }
        }
    });
    pipe
}

#[rpc_parallel::process]
async fn echo_after(number: u64, delay: Duration) -> (u64, u32) {
    tokio::time::sleep(delay).await;
    (number, std::process::id())
}

#[rpc_parallel::process]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[rpc_parallel::process]
async fn pid_of_nested() -> Result<(u32, u32), AnyError> {
    Ok((std::process::id(), pid::run().await?))
}

#[rpc_parallel::process]
#[expect(clippy::too_many_arguments, reason = "a function may have 16 arguments")]
fn sum(
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    e: u8,
    f: u8,
    g: u8,
    h: u8,
    i: u8,
    j: u8,
    k: u8,
    l: u8,
    m: u8,
    n: u8,
    o: u8,
    p: u8,
) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p
}

fn page() -> Page {
    Page { title: "A".to_owned(), words: vec![1, 5, 9] }
}

fn pipe_of_pids() -> (PipeWriter<u32>, Pipe<u32>) {
    Pipe::pair()
}

#[rpc_parallel::test]
async fn run_calls_function_in_another_process() {
    let other = soon(pid::run()).await.expect("run `pid`");

    assert_ne!(other, pid());
    assert!(ends(other).await, "the process ends after its call");
}

#[rpc_parallel::test]
async fn arguments_and_results_travel_as_in_worker_functions() {
    let counted = soon(count::run(&page(), (1, 6), 10)).await;
    let joined = soon(join::run(&["a".to_owned(), "b".to_owned()], "-")).await;
    let summed = soon(sum::run(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2)).await;

    assert_eq!(counted.expect("run `count`"), count(&page(), (1, 6), 10).await);
    assert_eq!(joined.expect("run `join`"), "a-b");
    assert_eq!(summed.expect("run `sum`"), 17);
}

#[rpc_parallel::test]
async fn error_of_function_keeps_its_type() {
    let parsed = soon(parse::run("12")).await;
    let error = soon(parse::run("x")).await.expect_err("the text is no number");
    let titled = soon(parse_page::run("A".to_owned())).await;
    let untitled = soon(parse_page::run(String::new())).await;

    assert_eq!(parsed.expect("run `parse`"), 12);
    assert!(matches!(&error, RunError::Function(error) if error.to_string().contains("invalid")));
    assert_eq!(titled.expect("run `parse_page`").title, "A");
    assert!(matches!(untitled, Err(RunError::Function(why)) if why == "no title"));
}

#[rpc_parallel::test]
async fn function_and_type_are_imported_together_from_library() {
    let in_plane = soon(plane::distance::run((3, 4))).await;
    use line::distance;
    let on_line = soon(distance::run(-3)).await;

    assert_eq!(in_plane.expect("run `plane::distance`"), plane::distance((3, 4)));
    assert_eq!(on_line.expect("run `line::distance`"), 3);
    let distance = distance(-7);
    assert_eq!(distance, 7);
}

#[rpc_parallel::test]
async fn panic_of_function_is_told_apart() {
    let error = soon(die::run(Death::Panic)).await.expect_err("the function panics");

    let panic = error.panic().expect("the error holds the panic");
    assert_eq!(panic.message, "a planned panic");
    assert_eq!(error.exit_reason(), None);
    let text = error.to_string();
    assert!(text.starts_with("failed to call `process_functions::die` on worker `die`"), "{text}");
}

#[rpc_parallel::test]
async fn exit_reason_of_process_is_told_apart() {
    let deaths = [Death::Exit(3), Death::Exit(0), Death::Signal(9), Death::Abort];

    let errors = join_all(deaths.map(|it| soon(die::run(it)))).await;

    let reasons = errors.into_iter().map(|it| it.expect_err("the process ends").exit_reason());
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(
        reasons[..3],
        [3, 0].map(ExitReason::Exited).into_iter().chain([KILLED]).map(Some).collect::<Vec<_>>()
    );
    assert!(matches!(reasons[3], Some(ExitReason::Signaled { signal: 6, .. })), "{reasons:?}");
}

#[rpc_parallel::test]
async fn process_that_does_not_start_is_told_apart() {
    let run = pid::run().spawner(|it| it.current_dir("/no/such/directory"));

    let error = soon(run).await.expect_err("the directory does not exist");

    let RunError::Spawn(error) = &error else { panic!("{error}") };
    assert!(matches!(error.kind(), SpawnErrorKind::CurrentDir { .. }), "{error}");
}

#[rpc_parallel::test]
async fn spawner_configures_process() {
    let run = variable::run("COLOUR").spawner(|it| it.env("COLOUR", "blue"));
    let run = run.spawner(|it| it.limit(ResourceLimit::open_files(100)));

    assert_eq!(soon(run).await.expect("run `variable`").as_deref(), Some("blue"));
}

#[rpc_parallel::test]
async fn arguments_beyond_limit_of_process_are_refused() {
    let text = "1".repeat(5000);
    let small = Settings::default().with_max_message_size(4096);

    let error = soon(parse::run(&text).spawner(|it| it.settings(small))).await;

    let Err(RunError::Call(error)) = error else { panic!("{error:?}") };
    assert!(
        matches!(error.kind(), CallErrorKind::TooLarge { too_large, .. }
        if too_large.size > 5000 && too_large.max == 4096),
        "{error}"
    );
    assert_eq!(error.execution(), Execution::NotBegun);
}

#[rpc_parallel::test]
async fn dropping_run_ends_process_within_a_second() {
    let (writer, mut pids) = pipe_of_pids();
    let mut run = Box::pin(send_pid_and_wait::run(writer));
    let waiting = pid_while_running(&mut run, &mut pids).await;
    let (writer, mut pids) = pipe_of_pids();
    let mut run_blocked = Box::pin(send_pid_and_block::run(writer));
    let blocked = pid_while_running(&mut run_blocked, &mut pids).await;

    drop(run);
    drop(run_blocked);

    let within = Duration::from_millis(1500);
    let gone = tokio::task::spawn_blocking(move || {
        (ends_within(waiting, Duration::from_secs(1)), ends_within(blocked, within))
    });
    assert_eq!(gone.await.expect("waiting does not panic"), (true, true));
}

/// Polls a run until its function has sent its process id.
async fn pid_while_running<T: std::fmt::Debug>(
    run: &mut (impl Future<Output = T> + Unpin),
    pids: &mut Pipe<u32>,
) -> u32 {
    soon(async {
        tokio::select! {
            result = run => panic!("the run ended: {result:?}"),
            pid = pids.next() => pid.expect("the pipe is open").expect("the function sends it"),
        }
    })
    .await
}

#[rpc_parallel::test]
async fn timeout_kills_process_that_blocks_or_is_stopped() {
    for stopped in [false, true] {
        let (writer, mut pids) = pipe_of_pids();
        let limit = Duration::from_millis(400);
        let began = Instant::now();
        let mut run = Box::pin(send_pid_and_block::run(writer).timeout(limit));
        let pid = pid_while_running(&mut run, &mut pids).await;
        if stopped {
            stop(pid);
        }

        let error = soon(run).await.expect_err("the function does not return");

        let (elapsed, text) = (began.elapsed(), error.to_string());
        assert!(matches!(error, RunError::TimedOut { after, .. } if after == limit), "{text}");
        assert!(text.contains("process_functions::send_pid_and_block"), "{text}");
        assert!((limit..limit + Duration::from_millis(100)).contains(&elapsed), "{elapsed:?}");
        assert!(ends(pid).await);
    }
}

#[rpc_parallel::test]
async fn timeout_ends_process_that_starts() {
    let spawner = |it: rpc_parallel::Spawner<_>| it.env("COLOUR", "blue");

    let error = soon(pid::run().spawner(spawner).timeout(Duration::ZERO)).await;

    assert!(matches!(error, Err(RunError::TimedOut { .. })), "{error:?}");
}

#[rpc_parallel::test]
async fn nothing_written_before_return_is_lost() {
    let count = 10 * 1024 * 1024 / BLOCK;
    let (writer, blocks) = Pipe::pair();

    let pid = soon(write_blocks::run(writer, count)).await.expect("run `write_blocks`");

    let blocks = elements(blocks).await;
    assert_eq!(blocks.len(), count);
    assert!(blocks.iter().enumerate().all(|(n, it)| it.len() == BLOCK && it[0] == (n % 256) as u8));
    assert!(ends(pid).await, "the process ends with its pipes");
}

#[rpc_parallel::test]
async fn pipes_connect_caller_and_process_in_both_directions() {
    let doubled = soon(doubles::run(Pipe::from_items(0..1000))).await.expect("run `doubles`");

    assert_eq!(elements(doubled).await, (0..1000).map(|it| 2 * it).collect::<Vec<_>>());
}

#[rpc_parallel::test]
async fn process_function_starts_another_process() {
    let (outer, inner) = soon(pid_of_nested::run()).await.expect("run `pid_of_nested`");

    assert!(outer != inner && outer != pid() && inner != pid());
}

#[rpc_parallel::test]
async fn each_concurrent_call_of_reused_process_gets_its_own_answer() {
    let process = soon(echo_after::reuse()).await.expect("start a process");
    // Later calls are answered first.
    let delay = |number| Duration::from_millis(100 - number);

    let calls = (0..100).map(|it| process.call(it, delay(it)));
    let answers = soon(join_all(calls)).await;

    let answers = answers.into_iter().map(|it| it.expect("the process answers"));
    let (numbers, pids): (Vec<_>, HashSet<_>) = answers.unzip();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(pids.len(), 1);
}

#[rpc_parallel::test]
async fn reused_process_ends_with_its_last_clone() {
    let process = soon(pid::reuse()).await.expect("start a process");
    let clone = process.clone();
    let pid = soon(process.call()).await.expect("call `pid`");

    drop(process);
    assert_eq!(soon(clone.call()).await, Ok(pid));
    drop(clone);

    assert!(ends(pid).await);
}

#[rpc_parallel::test]
async fn reused_process_continues_after_errors_and_panics() {
    let process = soon(die::reuse()).await.expect("start a process");
    let parser = soon(parse::reuse()).await.expect("start a process");

    let panicked = soon(process.call(Death::Panic)).await.expect_err("the function panics");
    let failed = soon(parser.call("x")).await.expect_err("the text is no number");

    assert!(matches!(panicked.kind(), CallErrorKind::Panicked(_)), "{panicked}");
    assert!(failed.into_function().is_ok());
    assert_eq!(soon(parser.call("3")).await, Ok(3).map_err(|it: FunctionError<AnyError>| it));
    process.process().kill().await.expect("kill the process");
}

#[rpc_parallel::test]
async fn calls_of_dead_reused_process_fail_with_its_exit_reason() {
    let process = soon(echo_after::reuse()).await.expect("start a process");
    let (_, pid) = soon(process.call(0, Duration::ZERO)).await.expect("the process answers");
    let waiting = tokio::spawn(process.call(1, Duration::from_secs(1000)));
    // An answer means that the process has received the call before.
    soon(process.call(2, Duration::ZERO)).await.expect("the process answers");

    kill(pid);

    let in_flight = soon(waiting).await.expect("a call does not panic").expect_err("it is dead");
    assert_eq!(in_flight.execution(), Execution::WorkerGone);
    for _ in 0..3 {
        let error = soon(process.call(3, Duration::ZERO)).await.expect_err("it is dead");
        let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
        assert_eq!(failure.exit_reason(), KILLED);
    }
    assert!(is_gone(pid));
}

#[rpc_parallel::test]
async fn process_function_is_a_function_value() {
    let process = soon(join::reuse()).await.expect("start a process");
    let upper = join::FUNCTION.map_output(|it| it.to_uppercase());

    let joined = soon(upper.call(process.process(), &(vec!["a".into(), "b".into()], "+".into())));

    assert_eq!(joined.await.expect("call `join`"), "A+B");
    assert_eq!(
        format!("{:?}", join::FUNCTION),
        r#"ProcessFunction("join(&[String],&str)->String")"#
    );
}

#[rpc_parallel::test]
async fn process_functions_are_listed_once() {
    let registry = rpc_parallel::expert::registry().to_string();

    let lines: Vec<_> = registry.lines().collect();
    let at =
        lines.iter().position(|it| it.ends_with("  rpc_parallel::Processes: ProcessFunctions"));
    let functions: Vec<_> = lines[at.expect("they are listed") + 1..]
        .iter()
        .take_while(|it| it.starts_with("  "))
        .filter_map(|it| it.trim_start().split_once("  "))
        .map(|(_, signature)| signature)
        .collect();
    assert!(
        functions.contains(&"process_functions::join(&[String],&str)->String"),
        "{functions:?}"
    );
    assert!(functions.contains(&"rpc_parallel_tests::process_functions::line::distance(i32)->u32"));
    assert!(functions.is_sorted());
}

#[test]
fn synchronous_main_waits_for_process_functions() {
    let output = Program::run(&mut Command::new(env!("CARGO_BIN_EXE_sync_wait")));

    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, ["9", "expected", "16 25", "36", "49"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wait_on_multi_threaded_runtime_lets_other_tasks_continue() {
    let pid = pid::run().wait().expect("run `pid`");

    assert!(ends(pid).await);
}
