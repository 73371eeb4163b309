//! The life of a program, from the start of its first process to the end of its last job.

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::error::FirstProcessError;
use super::set_up::{Files, SetUp};
use super::stray_jobs::StrayJobs;
use crate::launch::Role;
use crate::pool::jobs::{EndOrder, JobEnd, RunningJobs, StartJob};
use crate::pool::race::{Either, race};
use crate::wire::Message;

/// What a program does besides running its first process.
#[derive(Default)]
pub(super) struct Options {
    pub(super) files: Files,
    pub(super) stray_jobs: StrayJobs,
}

/// Resolves when the run is to be stopped: the sender has sent `true`, or was dropped.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped.
    let _ = stopped.wait_for(|it| *it).await;
}

/// Runs the first process and all jobs to their end, and returns the end of the first process.
///
/// No user code runs in it.
pub(super) async fn supervise<T: Message, E: Message>(
    start: StartJob<T, E>,
    options: Options,
    mut stopped: watch::Receiver<bool>,
) -> Result<JobEnd, FirstProcessError<E>> {
    if Role::current() == Some(Role::Worker) {
        return Err(FirstProcessError::NotTop);
    }
    let files = options.files;
    let set_up = blocking(move || SetUp::create(files)).await?;
    let (result, stray_jobs) = match race(first(start), stop(&mut stopped)).await {
        Either::First(result) => (result, options.stray_jobs),
        Either::Second(()) => (Err(FirstProcessError::Stopped), StrayJobs::Cancel),
    };
    end_jobs(stray_jobs, &mut stopped).await;
    blocking(move || drop(set_up)).await;
    result
}

async fn first<T: Message, E: Message>(
    start: StartJob<T, E>,
) -> Result<JobEnd, FirstProcessError<E>> {
    let job = start.await.map_err(FirstProcessError::Start)?;
    job.end().await.map_err(FirstProcessError::Failed)
}

/// Waits until no job runs. Jobs that run for too long are ended.
async fn end_jobs(stray_jobs: StrayJobs, stopped: &mut watch::Receiver<bool>) {
    let jobs = RunningJobs::get();
    let order = match stray_jobs {
        StrayJobs::Cancel => EndOrder::Cancel,
        StrayJobs::Wait => match race(jobs.ended(), stop(stopped)).await {
            Either::First(()) => return,
            Either::Second(()) => EndOrder::Cancel,
        },
        StrayJobs::Kill { after } => {
            match race(jobs.ended(), race(stop(stopped), sleep(after))).await {
                Either::First(()) => return,
                Either::Second(Either::First(())) => EndOrder::Cancel,
                Either::Second(Either::Second(())) => EndOrder::Kill,
            }
        }
    };
    let _ordered = jobs.end_all(order);
    jobs.ended().await;
}

/// Runs a function that can block.
async fn blocking<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    spawn_blocking(run).await.expect("the function does not panic, and its runtime does not end")
}
