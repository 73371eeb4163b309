//! Distributes the files to workers, so that each file is counted once, also if workers die.
//!
//! A call ends with an answer or with an error, and only an answer changes the totals. The files of
//! a failed call are counted again, from then on each in a call of its own. After `MAX_FAILURES`
//! failed calls a file is reported and left out.

use std::path::PathBuf;

use ignore::{DirEntry, Walk};
use rpc_parallel::SpawnError;
use rpc_parallel::prelude::*;
use tokio::task::JoinSet;

use crate::count::{Counted, Counter, WordCountClient};
use crate::report::Report;
use crate::totals::Totals;

/// The maximum number of calls in flight to a worker, so that it never waits for its next batch.
const MAX_IN_FLIGHT: usize = 3;

/// The maximum size of a batch, in bytes. A larger one repeats fewer words in several answers, and
/// means that more files are counted again after a worker has failed.
const BATCH_BYTES: u64 = 4 << 20;

/// How many files the walk finds before it reports them.
const WALK_FILES: usize = 1000;

/// The number of failures after which a file is left out. After as many failed starts in a row of a
/// worker the program ends.
const MAX_FAILURES: u32 = 3;

/// Counts the words of all files that a walk finds.
pub async fn count(walk: Walk, workers: usize, report: &mut Report) -> anyhow::Result<Totals> {
    let mut spread = Spread {
        events: JoinSet::new(),
        slots: (0..workers).map(|_| WorkerSlot::default()).collect(),
        fresh: Vec::new(),
        fresh_bytes: 0,
        suspects: Vec::new(),
        totals: Totals::new(workers),
        report,
    };
    spread.walk(Box::new(walk));
    (0..workers).for_each(|it| spread.start(it));
    while let Some(event) = spread.events.join_next().await {
        spread.handle(event?).await?;
        spread.assign_batches();
    }
    Ok(spread.totals)
}

/// The state of the distribution.
struct Spread<'a> {
    /// The tasks that run. The work is done when none is left.
    events: JoinSet<Event>,
    slots: Vec<WorkerSlot>,
    fresh: Vec<File>,
    fresh_bytes: u64,
    /// Files whose call has failed before.
    suspects: Vec<File>,
    totals: Totals,
    report: &'a mut Report,
}

/// A worker, and the workers that replace it.
#[derive(Default)]
struct WorkerSlot {
    client: Option<WordCountClient>,
    in_flight: usize,
    failed_starts: u32,
}

/// A file that is not counted yet.
struct File {
    path: PathBuf,
    bytes: u64,
    failures: u32,
}

/// The result of a task.
enum Event {
    Found { files: Vec<Result<File, ignore::Error>>, rest: Option<Box<Walk>> },
    Started { slot: usize, client: Result<WordCountClient, SpawnError> },
    Answered { slot: usize, batch: Vec<File>, answer: Result<Counted, CallError> },
}

impl Spread<'_> {
    fn walk(&mut self, mut walk: Box<Walk>) {
        self.events.spawn_blocking(move || {
            let files: Vec<_> = walk.by_ref().filter_map(file).take(WALK_FILES).collect();
            let rest = (files.len() == WALK_FILES).then_some(walk);
            Event::Found { files, rest }
        });
    }

    fn start(&mut self, slot: usize) {
        let starting = Counter::spawner().name(format!("counter-{}", slot + 1)).spawn(());
        self.events.spawn(async move { Event::Started { slot, client: starting.await } });
    }

    async fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Found { files, rest } => {
                for file in files {
                    match file {
                        Ok(file) => {
                            self.report.bar.inc_length(file.bytes);
                            self.fresh_bytes += file.bytes;
                            self.fresh.push(file);
                        }
                        Err(error) => self.report.left_out(&error),
                    }
                }
                rest.into_iter().for_each(|it| self.walk(it));
            }
            Event::Started { slot, client: Ok(client) } => {
                self.report.started(&client.label());
                self.slots[slot] = WorkerSlot { client: Some(client), ..WorkerSlot::default() };
            }
            Event::Started { slot, client: Err(error) } => {
                self.slots[slot].failed_starts += 1;
                if self.slots[slot].failed_starts == MAX_FAILURES {
                    return Err(error.into());
                }
                self.report.note(&error);
                self.start(slot);
            }
            Event::Answered { slot, batch, answer } => {
                self.slots[slot].in_flight -= weight(&batch);
                match answer {
                    Ok(counted) => self.add(slot, &batch, counted),
                    Err(error) => self.retry(batch, &error),
                }
                self.replace_if_ended(slot).await;
            }
        }
        Ok(())
    }

    fn add(&mut self, slot: usize, batch: &[File], counted: Counted) {
        for (index, why) in &counted.left_out {
            self.report.left_out(format_args!("{}: {why}", batch[*index].path.display()));
        }
        self.report.bar.inc(batch.iter().map(|it| it.bytes).sum());
        let files = (batch.len() - counted.left_out.len()) as u64;
        self.totals.add(slot, files, &counted);
    }

    fn retry(&mut self, batch: Vec<File>, error: &CallError) {
        for mut file in batch {
            file.failures += 1;
            if file.failures < MAX_FAILURES {
                self.suspects.push(file);
            } else {
                let path = file.path.display();
                self.report.failed(format_args!("{path}: {}", error.kind()));
                self.report.bar.inc(file.bytes);
            }
        }
    }

    /// Replaces a worker that has ended, after all of its calls have failed.
    async fn replace_if_ended(&mut self, slot: usize) {
        let WorkerSlot { client, in_flight: 0, .. } = &mut self.slots[slot] else { return };
        if let Some(ended) = client.take_if(|it| it.is_closed()) {
            self.report.note(format_args!("{}: {}", ended.label(), ended.closed().await));
            self.start(slot);
        }
    }

    /// Sends batches to each worker, up to `MAX_IN_FLIGHT`.
    fn assign_batches(&mut self) {
        // Each worker gets one batch before any gets a second, so the last batches are spread.
        for level in 0..MAX_IN_FLIGHT {
            for slot in 0..self.slots.len() {
                let WorkerSlot { client: Some(client), in_flight, .. } = &self.slots[slot] else {
                    continue;
                };
                if *in_flight == level {
                    let client = client.clone();
                    let Some(batch) = self.next_batch(level) else { continue };
                    self.slots[slot].in_flight += weight(&batch);
                    let files: Vec<_> = batch.iter().map(|it| it.path.clone().into()).collect();
                    self.events.spawn(async move {
                        Event::Answered { slot, batch, answer: client.count(&files).await }
                    });
                }
            }
        }
    }

    fn next_batch(&mut self, in_flight: usize) -> Option<Vec<File>> {
        if !self.suspects.is_empty() {
            // The worker gets no other batch, so only this file can crash it.
            return if in_flight == 0 { Some(vec![self.suspects.pop()?]) } else { None };
        }
        // Batches become small towards the end, so that all workers finish at about the same time.
        let full = BATCH_BYTES.min(self.fresh_bytes / (MAX_IN_FLIGHT * self.slots.len()) as u64);
        let mut batch = vec![self.fresh.pop()?];
        let mut bytes = batch[0].bytes;
        while let Some(file) = self.fresh.pop_if(|it| bytes + it.bytes <= full) {
            bytes += file.bytes;
            batch.push(file);
        }
        self.fresh_bytes -= bytes;
        Some(batch)
    }
}

/// Returns as how many of the `MAX_IN_FLIGHT` calls a batch counts: as all of them if a file has
/// failed before.
fn weight(batch: &[File]) -> usize {
    if batch.iter().any(|it| it.failures > 0) { MAX_IN_FLIGHT } else { 1 }
}

/// Returns an entry of the walk if it is a file, or the error of the walk.
fn file(found: Result<DirEntry, ignore::Error>) -> Option<Result<File, ignore::Error>> {
    let file = found.and_then(|entry| Ok((entry.metadata()?, entry.into_path())));
    match file {
        Ok((metadata, _)) if !metadata.is_file() => None,
        Ok((metadata, path)) => Some(Ok(File { path, bytes: metadata.len(), failures: 0 })),
        Err(error) => Some(Err(error)),
    }
}
