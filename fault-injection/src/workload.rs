//! Workloads: calls and streams that run until the master finishes them or the worker fails.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use rpc_parallel::prelude::*;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::fleet_state::{FleetState, wait_until_true};
use crate::plan::Workload;
use crate::worker::{TestState, TestWorkerClient, TestWorkerConfig};

/// Pauses between calls leave the few cores to the many workers.
const PAUSE: Duration = Duration::from_millis(2);
/// Streams pause after this number of elements: the round tests their ends and not their speed.
const ELEMENTS_PER_PAUSE: u64 = 64;
const LARGE_ARGUMENT: usize = 1024 * 1024;

/// How a workload ended.
pub(crate) enum WorkloadOutcome {
    Completed,
    /// The worker failed, with this exit reason.
    WorkerFailed(ExitReason),
    Unexpected(String),
}

/// Runs a workload until `finished` is true or the worker fails.
pub(crate) async fn run(
    workload: Workload,
    client: TestWorkerClient,
    fleet: FleetState,
    mut finished: watch::Receiver<bool>,
) -> WorkloadOutcome {
    match workload {
        Workload::SmallCalls => call(&client, Bytes::from_static(b"hello"), &finished).await,
        Workload::LargeCalls => {
            call(&client, Bytes::from(vec![7; LARGE_ARGUMENT]), &finished).await
        }
        Workload::Compute => {
            while !*finished.borrow() {
                if let Err(error) = client.block_thread(Duration::from_millis(3)).await {
                    return WorkloadOutcome::of_call_error(&error);
                }
                sleep(PAUSE).await;
            }
            WorkloadOutcome::Completed
        }
        Workload::PendingCall => endless_call(client.wait_forever(), &mut finished).await,
        Workload::BlockThread => {
            let hour = Duration::from_secs(3600);
            endless_call(client.block_thread(hour), &mut finished).await
        }
        Workload::ReadStream => read_stream(&client, &mut finished).await,
        Workload::WriteStream => write_stream(&client, &finished).await,
        Workload::CallPeer => {
            let Some(peer) = fleet.any_worker().await else { return WorkloadOutcome::Completed };
            call_peer(&client, peer, &mut finished).await
        }
        Workload::CallMaster => call_master(&client, &mut finished).await,
    }
}

/// Awaits a future until `finished` is true. Returns `None` if that comes first.
async fn until_finished<T>(
    finished: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(wait_until_true(finished)), pin!(future)).await {
        Either::Left(_) => None,
        Either::Right((output, _)) => Some(output),
    }
}

async fn call(
    client: &TestWorkerClient,
    bytes: Bytes,
    finished: &watch::Receiver<bool>,
) -> WorkloadOutcome {
    while !*finished.borrow() {
        match client.echo(bytes.clone()).await {
            Ok(answer) if answer == bytes => {}
            Ok(answer) => {
                let description = format!("echo returned {} other bytes", answer.len());
                return WorkloadOutcome::Unexpected(description);
            }
            Err(error) => return WorkloadOutcome::of_call_error(&error),
        }
        sleep(PAUSE).await;
    }
    WorkloadOutcome::Completed
}

async fn endless_call(
    call: impl Future<Output = Result<(), CallError>>,
    finished: &mut watch::Receiver<bool>,
) -> WorkloadOutcome {
    match until_finished(finished, call).await {
        None => WorkloadOutcome::Completed,
        Some(Ok(())) => WorkloadOutcome::Unexpected("an endless call returned".to_owned()),
        Some(Err(error)) => WorkloadOutcome::of_call_error(&error),
    }
}

async fn read_stream(
    client: &TestWorkerClient,
    finished: &mut watch::Receiver<bool>,
) -> WorkloadOutcome {
    let mut numbers = match client.numbers().await {
        Ok(numbers) => numbers,
        Err(error) => return WorkloadOutcome::of_call_error(&error),
    };
    let mut expected = 0;
    loop {
        match until_finished(finished, numbers.next()).await {
            None => return WorkloadOutcome::Completed,
            Some(Some(Ok(number))) if number == expected => expected += 1,
            Some(Some(Ok(number))) => {
                let description = format!("expected element {expected}, found {number}");
                return WorkloadOutcome::Unexpected(description);
            }
            Some(Some(Err(error))) => return WorkloadOutcome::of_pipe_error(&error),
            Some(None) => {
                return WorkloadOutcome::Unexpected("an endless pipe ended".to_owned());
            }
        }
        if expected % ELEMENTS_PER_PAUSE == 0 {
            sleep(PAUSE).await;
        }
    }
}

async fn write_stream(
    client: &TestWorkerClient,
    finished: &watch::Receiver<bool>,
) -> WorkloadOutcome {
    let (writer, numbers) = Pipe::pair();
    let mut finished = finished.clone();
    let writing = tokio::spawn(async move {
        let mut sum = 0;
        for number in 0_u64.. {
            match until_finished(&mut finished, writer.send(number)).await {
                Some(Ok(())) => sum += number,
                // If the worker has failed, the call returns the error.
                Some(Err(_)) => break,
                // An interrupted `send` may have sent its element.
                None => return (sum, Some(number)),
            }
            if number % ELEMENTS_PER_PAUSE == 0 {
                sleep(PAUSE).await;
            }
        }
        (sum, None)
    });
    let sum = match client.sum(numbers).await {
        Ok(sum) => sum,
        Err(error) => {
            writing.abort();
            return match error {
                FunctionError::Call(error) => WorkloadOutcome::of_call_error(&error),
                FunctionError::Function(error) => WorkloadOutcome::of_pipe_error(&error),
            };
        }
    };
    match writing.await {
        Ok((sent, interrupted))
            if sum == sent || Some(sum) == interrupted.map(|number| sent + number) =>
        {
            WorkloadOutcome::Completed
        }
        Ok((sent, _)) => {
            WorkloadOutcome::Unexpected(format!("the sum sent is {sent}, the sum received {sum}"))
        }
        Err(error) => WorkloadOutcome::Unexpected(error.to_string()),
    }
}

async fn call_peer(
    client: &TestWorkerClient,
    peer: Worker<TestState>,
    finished: &mut watch::Receiver<bool>,
) -> WorkloadOutcome {
    match until_finished(finished, client.call_peer(peer)).await {
        None => WorkloadOutcome::Completed,
        Some(Ok(())) => WorkloadOutcome::Unexpected("an endless call returned".to_owned()),
        // The peer may have failed or closed its server.
        Some(Err(FunctionError::Function(_))) => WorkloadOutcome::Completed,
        Some(Err(FunctionError::Call(error))) => WorkloadOutcome::of_call_error(&error),
    }
}

/// Serves the test worker in this process, and has the worker call it.
async fn call_master(
    client: &TestWorkerClient,
    finished: &mut watch::Receiver<bool>,
) -> WorkloadOutcome {
    let server = match TestState::serve(TestWorkerConfig::default()).await {
        Ok(server) => server,
        Err(error) => return WorkloadOutcome::Unexpected(error.to_string()),
    };
    let outcome = call_peer(client, server.clone(), finished).await;
    let closed = async {
        let client = server.connect(()).await.map_err(|it| it.to_string())?;
        client.close_server().await.map_err(|it| it.to_string())
    };
    match closed.await {
        Ok(()) => outcome,
        Err(error) => {
            WorkloadOutcome::Unexpected(format!("failed to close the master's server: {error}"))
        }
    }
}

impl WorkloadOutcome {
    fn of_call_error(error: &CallError) -> Self {
        match error.kind() {
            CallErrorKind::WorkerDied(failure) => Self::WorkerFailed(failure.exit_reason()),
            // The server of a handle among the arguments may have ended.
            CallErrorKind::Unencodable { .. } => Self::Completed,
            _ => Self::Unexpected(error.to_string()),
        }
    }

    fn of_pipe_error(error: &PipeError) -> Self {
        match error.kind() {
            PipeErrorKind::WorkerDied(failure) => Self::WorkerFailed(failure.exit_reason()),
            _ => Self::Unexpected(error.to_string()),
        }
    }
}
