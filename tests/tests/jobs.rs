//! Jobs: calls of process functions that any process of the program starts, and any may join.

use std::collections::HashSet;
use std::os::unix::process::parent_id;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use rpc_parallel::error::ExitReason;
use rpc_parallel::prelude::*;
use rpc_parallel::process::{Job, JoinError, StartJobError};
use rpc_parallel_tests::failures::KILLED;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::{ends, ends_within, is_gone, kill};
use rpc_parallel_tests::program::Program;
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};

#[rpc_parallel::process]
fn pids() -> (u32, u32) {
    (std::process::id(), parent_id())
}

#[rpc_parallel::process]
async fn echo(text: &str) -> String {
    text.to_owned()
}

#[rpc_parallel::process]
fn length(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[rpc_parallel::process]
fn parse(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Death {
    Panic,
    Exit(i32),
    Abort,
}

#[rpc_parallel::process]
fn die(death: Death) -> u32 {
    match death {
        Death::Panic => panic!("a planned panic"),
        Death::Exit(code) => std::process::exit(code),
        Death::Abort => std::process::abort(),
    }
}

#[rpc_parallel::process]
fn wait_at(gate: &GateAddress) -> u32 {
    gate.block();
    std::process::id()
}

/// Starts a job in a process that then ends, and returns the id of that process and the job.
#[rpc_parallel::process]
async fn start_wait_at(gate: GateAddress) -> Result<(u32, Job<u32>), AnyError> {
    Ok((std::process::id(), wait_at::start(&gate).await?))
}

#[rpc_parallel::process]
async fn start_pids_two_levels_below(levels: u8) -> Result<Job<(u32, u32)>, AnyError> {
    if levels > 0 {
        return Ok(Box::pin(start_pids_two_levels_below::run(levels - 1)).await?);
    }
    Ok(pids::start().await?)
}

#[rpc_parallel::process]
async fn join_echo(job: Job<String>) -> Result<String, AnyError> {
    Ok(job.join().await?)
}

#[rpc_parallel::process]
async fn join_parse(job: Job<u32, String>) -> Result<u32, String> {
    job.join().await.map_err(|error| error.to_string())
}

#[rpc_parallel::process]
async fn wait_for_job(job: Job<u32>, gate: GateAddress) -> Result<u32, AnyError> {
    gate.notify();
    Ok(job.join().await?)
}

async fn start_at(gate: &Gate) -> Job<u32> {
    soon(wait_at::start(&gate.address())).await.expect("start a job")
}

#[rpc_parallel::test]
async fn job_is_joined_once_and_every_other_join_fails_at_once() {
    let job = soon(echo::start("a")).await.expect("start a job");

    assert_eq!(soon(job.join()).await, Ok("a".to_owned()));
    for _ in 0..2 {
        assert_eq!(soon(job.join()).await, Err(JoinError::AlreadyJoined));
        assert_eq!(soon(job.try_join()).await, Err(JoinError::AlreadyJoined));
        assert_eq!(soon(job.detach()).await, Err(JoinError::AlreadyJoined));
    }
}

#[rpc_parallel::test]
async fn process_that_did_not_start_job_joins_it() {
    let job = soon(echo::start("b")).await.expect("start a job");
    let failing = soon(parse::start("x")).await.expect("start a job");

    let joined = soon(join_echo::run(job)).await;
    let failed = soon(join_parse::run(failing)).await;

    assert_eq!(joined.expect("join in another process"), "b");
    assert_eq!(failed.expect_err("the function fails").to_string(), "\"x\" is no number");
    assert_eq!(soon(job.join()).await, Err(JoinError::AlreadyJoined));
}

#[rpc_parallel::test]
async fn jobs_are_children_of_top_process() {
    let by_top = soon(pids::start()).await.expect("start a job");
    let by_worker = soon(start_pids_two_levels_below::run(2)).await.expect("start a job");

    let parents = [soon(by_top.join()).await, soon(by_worker.join()).await];

    let parents = parents.map(|it| it.expect("the function returns").1);
    assert_eq!(parents, [std::process::id(); 2]);
}

#[rpc_parallel::test]
async fn job_outlives_process_that_started_it() {
    let gate = Gate::new();
    let (starter, job) = soon(start_wait_at::run(gate.address())).await.expect("start a job");
    let running = soon(gate.reached()).await;
    assert!(ends(starter).await);

    assert_eq!(soon(job.try_join()).await, Ok(None));
    let pid = running.pid();
    drop(running);

    assert_eq!(soon(job.join()).await, Ok(pid));
    assert!(ends(pid).await, "the process ends with its job");
}

#[rpc_parallel::test]
async fn second_concurrent_join_fails_at_once() {
    let gate = Gate::new();
    let job = start_at(&gate).await;
    let running = soon(gate.reached()).await;
    let first = tokio::spawn(async move { job.join().await });
    until_join_waits(job).await;

    assert_eq!(soon(job.join()).await, Err(JoinError::AlreadyJoined));
    assert_eq!(soon(job.detach()).await, Err(JoinError::AlreadyJoined));
    drop(running);

    assert!(soon(first).await.expect("a join does not panic").is_ok());
}

/// Waits until the request of a join in another task or process has arrived.
async fn until_join_waits(job: Job<u32>) {
    soon(async {
        while job.try_join().await == Ok(None) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[rpc_parallel::test]
async fn join_that_is_given_up_leaves_result_to_next_join() {
    let gate = Gate::new();
    let job = start_at(&gate).await;
    let running = soon(gate.reached()).await;
    // One joiner drops its join, and one is killed.
    let first = tokio::spawn(async move { job.join().await });
    until_join_waits(job).await;
    first.abort();
    let _ = soon(first).await;
    until_join_is_free(job).await;
    let joiner = soon(wait_for_job::reuse()).await.expect("start a process");
    let pid = joiner.process().label().pid().expect("the process runs here");
    let second = tokio::spawn(joiner.call(job, gate.address()));
    until_join_waits(job).await;
    kill(pid);
    assert!(soon(second).await.expect("a call does not panic").is_err());
    until_join_is_free(job).await;

    drop(running);

    assert!(soon(job.join()).await.is_ok());
}

async fn until_join_is_free(job: Job<u32>) {
    soon(async {
        while job.try_join().await == Err(JoinError::AlreadyJoined) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[rpc_parallel::test]
async fn every_end_of_job_is_told_apart() {
    let gate = Gate::new();
    let killed = start_at(&gate).await;
    let running = soon(gate.reached()).await;
    assert_eq!(soon(killed.try_join()).await, Ok(None));
    let starts = [Death::Panic, Death::Exit(3), Death::Abort].map(|it| soon(die::start(it)));
    let died = join_all(starts).await.into_iter().map(|it| it.expect("start a job"));
    let failed = soon(parse::start("x")).await.expect("start a job");
    let finished = soon(parse::start("7")).await.expect("start a job");

    kill(running.pid());
    let killed = soon(killed.join()).await.expect_err("the process is killed");
    let died = join_all(died.map(|it| async move { soon(it.join()).await })).await;

    assert_eq!(killed.exit_reason(), Some(KILLED));
    let [panicked, exited, aborted] = &died[..] else { panic!("{died:?}") };
    assert!(matches!(panicked, Err(JoinError::Panicked(it)) if it.message == "a planned panic"));
    let exit_reason = |it: &Result<u32, JoinError>| it.as_ref().err()?.exit_reason();
    assert_eq!(exit_reason(exited), Some(ExitReason::Exited(3)));
    assert!(matches!(exit_reason(aborted), Some(ExitReason::Signaled { signal: 6, .. })));
    assert_eq!(soon(failed.join()).await, Err(JoinError::Function("\"x\" is no number".into())));
    assert_eq!(soon(finished.join()).await, Ok(7));
}

#[rpc_parallel::test]
async fn job_that_exceeds_its_timeout_is_killed() {
    let gate = Gate::new();
    let after = Duration::from_millis(300);
    let starting = wait_at::start(&gate.address()).timeout(after);
    let job = soon(starting).await.expect("start a job");
    let blocked = soon(gate.reached()).await;

    let error = soon(job.join()).await.expect_err("the gate stays closed");

    assert_eq!(error, JoinError::TimedOut { after });
    let text = "failed to join the job: no result within 300ms, and its process was killed";
    assert_eq!(error.to_string(), text);
    assert!(ends(blocked.pid()).await);
    let in_time = soon(echo::start("t").timeout(Duration::from_secs(60))).await;
    assert_eq!(soon(in_time.expect("start a job").join()).await, Ok("t".to_owned()));
}

#[rpc_parallel::test]
async fn detached_job_continues_and_keeps_no_result() {
    let gate = Gate::new();
    let job = start_at(&gate).await;
    let running = soon(gate.reached()).await;
    let pid = running.pid();

    soon(job.detach()).await.expect("detach the job");

    assert!(!is_gone(pid));
    assert_eq!(soon(job.join()).await, Err(JoinError::Detached));
    drop(running);
    assert!(ends(pid).await);
    assert_eq!(soon(job.try_join()).await, Err(JoinError::Detached));
}

#[rpc_parallel::test]
async fn ids_are_unique_and_no_process_ids() {
    let starts = (0..10).map(|_| soon(pids::start()));
    let jobs = join_all(starts).await.into_iter().map(|it| it.expect("start a job"));
    let jobs: Vec<_> = jobs.collect();

    let ids: HashSet<_> = jobs.iter().map(|it| it.id().to_string()).collect();
    let joins = join_all(jobs.iter().map(|it| soon(it.join()))).await;

    assert_eq!(ids.len(), 10);
    for (job, pids) in jobs.iter().zip(joins) {
        let pid = pids.expect("the function returns").0;
        assert_eq!(job.to_string(), format!("{} (`jobs::pids`)", job.id()));
        assert_ne!(job.id().to_string(), format!("job {pid}"));
    }
}

#[rpc_parallel::test]
async fn handle_survives_serde_and_job_of_other_program_is_unknown() {
    let job = soon(echo::start("c")).await.expect("start a job");
    let json = serde_json::to_string(&job).expect("a job is plain data");
    let same: Job<String> = serde_json::from_str(&json).expect("it was a job");
    let keeper = json.split('"').find(|it| it.len() == 32).expect("the id names its keeper");
    let foreign = json.replace(keeper, &"0".repeat(32));
    let foreign: Job<String> = serde_json::from_str(&foreign).expect("it looks like a job");

    assert_eq!(same, job);
    assert_eq!(soon(foreign.join()).await, Err(JoinError::UnknownJob));
    assert_eq!(soon(same.join()).await, Ok("c".to_owned()));
}

#[rpc_parallel::test]
async fn large_arguments_and_results_arrive() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|it| (it % 251) as u8).collect();

    let job = soon(length::start(&bytes)).await.expect("start a job");

    assert_eq!(soon(job.join()).await, Ok(bytes));
}

#[rpc_parallel::test]
async fn argument_that_cannot_be_encoded_is_error_of_start() {
    #[rpc_parallel::process]
    fn is_some(nested: Option<Option<u8>>) -> bool {
        nested.is_some()
    }

    let error = soon(is_some::start(Some(None))).await.expect_err("it would become `None`");

    assert!(matches!(error, StartJobError::Arguments { .. }), "{error}");
}

#[test]
fn jobs_end_with_top_process_however_it_ends() {
    for killed in [false, true] {
        let mut program = Program::start(&mut Command::new(env!("CARGO_BIN_EXE_abandoned_jobs")));
        let pids = [program.numbers()[0], program.numbers()[0]];

        if killed {
            program.kill();
        } else {
            program.write_line("end");
            assert!(program.end().status.success());
        }

        assert!(pids.iter().all(|it| ends_within(*it, Duration::from_secs(5))), "{killed}");
    }
}

/// A worker whose `init` starts a job.
struct Starter(Job<String>);

impl WorkerState for Starter {
    type Init = String;

    async fn init(text: String) -> Result<Self, BoxError> {
        Ok(Self(echo::start(&text).await?))
    }
}

#[rpc_parallel::worker]
trait Starts {
    fn job(&self) -> Job<String>;
}

#[rpc_parallel::worker]
impl Starts for Starter {
    fn job(&self) -> Job<String> {
        self.0
    }
}

#[rpc_parallel::test]
async fn init_of_any_worker_can_start_job() {
    let starter = soon(Starter::spawn("d".to_owned())).await.expect("start a worker");

    let job = soon(starter.job()).await.expect("call `job`");

    assert_eq!(soon(job.join()).await, Ok("d".to_owned()));
}
