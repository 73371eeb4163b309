//! The task that runs the items of a map, on the runtime of the worker.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::task::{JoinSet, yield_now};

use super::attempt::within_attempt;
use super::fold::Fold;
use super::function::{BegunItem, ItemFunction, RunningItem};
use super::item_run::ItemRun;
use super::item_scope::ItemScope;
use super::lane_claims::Claimed;
use super::message::MalformedItems;
use super::pace::Pace;
use super::sync_run::{Combine, Front, SyncRun};
use crate::connection::{AnyError, PipeErrorKind, catch, drop_unfinished, task};
use crate::wire::{Body, ItemReader, Outcome, Refusal};

/// What a worker does with the items of a map.
pub(crate) struct Work {
    pub(crate) function: Box<dyn ItemFunction>,
    /// Combines the results of consecutive items.
    pub(crate) combine: Option<Box<dyn ItemFunction>>,
    /// The maximum number of items of an asynchronous function that run at once.
    pub(crate) concurrency: u32,
    pub(crate) run: Arc<ItemRun>,
}

/// Runs items until the map ends. After that, none of its user code runs.
///
/// # Errors
///
/// A batch was malformed.
pub(crate) async fn run_items(work: Work) -> Result<(), Refusal> {
    let run = work.run.clone();
    let one_at_a_time = work.concurrency <= 1 || work.function.is_synchronous();
    let combines_at_once = work.combine.as_ref().is_none_or(|it| it.is_synchronous());
    let ended = if work.function.is_synchronous() && combines_at_once {
        run.unless_closed(run_synchronous(&work)).await
    } else if one_at_a_time {
        run.unless_closed(run_lane(&work)).await.map(Result::err)
    } else {
        run_lanes(Arc::new(work)).await
    };
    match ended.flatten() {
        None => Ok(()),
        Some(malformed) => Err(Refusal::Violation { why: AnyError::from(malformed).to_string() }),
    }
}

/// Runs synchronous functions until a batch is malformed.
async fn run_synchronous(work: &Work) -> Option<MalformedItems> {
    let run = &work.run;
    let combine = work.combine.as_deref().map(|combine| {
        |scope: &ItemScope, input: ItemReader<'_>, out: &mut Vec<u8>, max: usize| match combine
            .begin_item(scope, input, out, max)
        {
            BegunItem::Done(outcome) => outcome,
            BegunItem::Running(_) => unreachable!("a synchronous function never waits"),
        }
    });
    let combine = combine.as_ref().map(|it| it as Combine<'_>);
    let mut pace = Pace::new(Instant::now());
    loop {
        let serial = run.front().await;
        let Some(front) = Front::of(run, serial) else { continue };
        // If an item kills the process, the master finds it in the first batch without all results.
        run.all_sent().await;
        let mut items = SyncRun::new(run, &mut pace, &front, combine);
        while let Some(has_item) = items.begin_slice() {
            if !has_item {
                run.may_begin(front.careful).await;
                continue;
            }
            if front.careful {
                run.all_sent().await;
            }
            let attempt = items.scope().attempt;
            let ran = catch(|| within_attempt(attempt, || work.function.run_slice(&mut items)));
            if let Err(panic) = ran {
                items.refuse_panicked(panic);
            }
            if items.is_malformed() {
                return Some(MalformedItems::of(front.items.len()));
            }
            if items.yields {
                yield_now().await;
            }
        }
    }
}

/// Runs items at once, each lane one at a time. Lanes are started as they are needed.
async fn run_lanes(work: Arc<Work>) -> Option<Option<MalformedItems>> {
    let mut lanes = JoinSet::new();
    let failed = Arc::new(std::sync::OnceLock::new());
    let starting = async {
        while lanes.len() < work.concurrency as usize {
            work.run.lane_needed().await;
            let (work, failed) = (work.clone(), failed.clone());
            lanes.spawn(task(async move {
                if let Err(malformed) = run_lane(&work).await {
                    let _ = failed.set(malformed);
                    work.run.close();
                }
            }));
            // The new lane claims its item.
            yield_now().await;
        }
        work.run.closed().await;
    };
    work.run.unless_closed(starting).await;
    lanes.shutdown().await;
    Some(failed.get().copied())
}

/// Runs one item after the other until the map ends.
///
/// With a single lane, the results of consecutive items are combined.
async fn run_lane(work: &Work) -> Result<(), MalformedItems> {
    let run = &work.run;
    let folds = work.concurrency <= 1 || work.function.is_synchronous();
    let combine = work.combine.as_deref().filter(|_| folds);
    let mut pace = Pace::new(Instant::now());
    let (mut fold, mut out) = (None, Vec::new());
    while let Some(item) = run.claim(|it| work.function.skip_item(it), &mut fold).await? {
        if item.is_careful() {
            run.all_sent().await;
        }
        let outcome = run_item(&*work.function, run, (&item.bytes, item.attempt), &mut out).await;
        match (combine, outcome) {
            (Some(combine), Ok(Outcome::Value)) if !item.is_careful() => {
                add_to_fold(combine, run, &item, &mut out, &mut fold).await;
            }
            (_, outcome) => run.complete_item(&item, outcome, &mut out, &mut fold),
        }
        let now = Instant::now();
        if pace.look(now) {
            yield_now().await;
            pace.begin_slice(Instant::now());
        }
    }
    Ok(())
}

/// Combines a result with the accumulator of the items before it.
async fn add_to_fold(
    combine: &dyn ItemFunction,
    run: &ItemRun,
    item: &Claimed,
    out: &mut Vec<u8>,
    fold: &mut Option<Fold>,
) {
    let Some(accumulator) = fold else {
        *fold = Some(item.begin_fold(std::mem::take(out)));
        return run.complete_folded(item, fold);
    };
    let mut input = Vec::new();
    accumulator.write_input(out, &mut input);
    match run_item(combine, run, (&input.into(), item.attempt), out).await {
        Ok(Outcome::Value) => {
            accumulator.extend(out);
            run.complete_folded(item, fold);
        }
        outcome => run.complete_item(item, outcome, out, fold),
    }
}

/// Runs a function on one item. The result replaces the content of `out`.
async fn run_item(
    function: &dyn ItemFunction,
    run: &ItemRun,
    (bytes, attempt): (&bytes::Bytes, u32),
    out: &mut Vec<u8>,
) -> Result<Outcome, Refusal> {
    out.clear();
    let (scope, max) = (ItemScope { scope: run.scope(), attempt }, run.max_result);
    let panicked = |panic| {
        run.exit_if_forked();
        Refusal::Panicked(panic)
    };
    let input = ItemReader::new(Body::shared(bytes));
    let begun = catch(|| within_attempt(attempt, || function.begin_item(&scope, input, out, max)));
    let mut running = match begun.map_err(panicked)? {
        BegunItem::Done(outcome) => return outcome,
        BegunItem::Running(running) => Unfinished(Some(running)),
    };
    let outcome = poll_fn(|cx| {
        let Unfinished(Some(running)) = &mut running else { return Poll::Pending };
        let polled = catch(|| within_attempt(attempt, || running.as_mut().poll_item(cx, out, max)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
    });
    let outcome = outcome.await;
    // The item is complete: a panic of its destructor does not change the result.
    let _ = catch(|| drop(running.0.take()));
    outcome
}

/// A pending item. Dropping it cancels the item.
struct Unfinished(Option<Pin<Box<dyn RunningItem>>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            let _ = catch(|| drop_unfinished(running, PipeErrorKind::Cancelled));
        }
    }
}
