//! The results of jobs that are not joined are bounded.

use rpc_parallel::Settings;
use rpc_parallel::process::{Job, JoinError};
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::ends;
use rpc_parallel_tests::waiting::soon;

/// Returns 4000 bytes when the gate opens.
#[rpc_parallel::process]
fn bytes(gate: &GateAddress) -> Vec<u8> {
    gate.block();
    vec![7; 4000]
}

/// Runs a job to its end without joining it.
async fn finished() -> Job<Vec<u8>> {
    let gate = Gate::new();
    let job = soon(bytes::start(&gate.address())).await.expect("start a job");
    let blocked = soon(gate.reached()).await;
    let pid = blocked.pid();
    drop(blocked);
    // The process ends when its result has been received.
    assert!(ends(pid).await);
    job
}

#[rpc_parallel::test(settings = Settings::default().with_kept_job_results(10_000))]
async fn oldest_results_beyond_limit_are_dropped() {
    let jobs = [finished().await, finished().await, finished().await];

    let first = soon(jobs[0].join()).await;
    let others = [soon(jobs[1].join()).await, soon(jobs[2].join()).await];

    assert_eq!(first, Err(JoinError::ResultDropped));
    assert_eq!(others.map(|it| it.map(|it| it.len())), [Ok(4000), Ok(4000)]);
    assert_eq!(soon(jobs[1].join()).await, Err(JoinError::AlreadyJoined));
}
