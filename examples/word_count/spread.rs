//! How the master gives out the work, so that every file is counted once, whoever dies.
//!
//! The words of a file enter the totals with the answer that brings them, and a call has either an
//! answer or an error. Files whose answer does not come are counted again, from then on each by
//! itself; a file that no worker survives is given up.

use std::path::PathBuf;

use ignore::{DirEntry, Walk};
use rpc_parallel::SpawnError;
use rpc_parallel::prelude::*;
use tokio::task::JoinSet;

use crate::count::{Counted, Counter, WordCountClient};
use crate::report::Report;
use crate::totals::Totals;

/// So many batches does a worker have at hand, lest it wait for the next.
const AT_HAND: usize = 3;

/// So many bytes make a batch. More would mean fewer words that stand in several answers, but also
/// more to count again when a worker dies.
const BATCH_BYTES: u64 = 4 << 20;

/// So many files are looked for at a time.
const WALK_FILES: usize = 1000;

/// So many failures, of a file or of the starts of a worker, are one too many.
const FAILURES: u32 = 3;

/// Counts the words of all files that a walk finds.
pub async fn count(walk: Walk, workers: usize, report: &mut Report) -> anyhow::Result<Totals> {
    let mut spread = Spread {
        events: JoinSet::new(),
        places: (0..workers).map(|_| Place::default()).collect(),
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
        spread.give_out();
    }
    Ok(spread.totals)
}

/// Who counts what.
struct Spread<'a> {
    /// What is under way; when nothing is, everything is done.
    events: JoinSet<Event>,
    places: Vec<Place>,
    fresh: Vec<File>,
    fresh_bytes: u64,
    /// Files with a failure behind them.
    suspects: Vec<File>,
    totals: Totals,
    report: &'a mut Report,
}

/// The place of a worker, and of those that replace it.
#[derive(Default)]
struct Place {
    client: Option<WordCountClient>,
    at_hand: usize,
    failed_starts: u32,
}

/// A file that waits for its words to be counted.
struct File {
    path: PathBuf,
    bytes: u64,
    failures: u32,
}

/// All that can happen.
enum Event {
    Found { files: Vec<Result<File, ignore::Error>>, rest: Option<Box<Walk>> },
    Started { place: usize, client: Result<WordCountClient, SpawnError> },
    Answered { place: usize, batch: Vec<File>, answer: Result<Counted, CallError> },
}

impl Spread<'_> {
    fn walk(&mut self, mut walk: Box<Walk>) {
        self.events.spawn_blocking(move || {
            let files: Vec<_> = walk.by_ref().filter_map(file).take(WALK_FILES).collect();
            let rest = (files.len() == WALK_FILES).then_some(walk);
            Event::Found { files, rest }
        });
    }

    fn start(&mut self, place: usize) {
        let starting = Counter::spawner().name(format!("counter-{}", place + 1)).spawn(());
        self.events.spawn(async move { Event::Started { place, client: starting.await } });
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
            Event::Started { place, client: Ok(client) } => {
                self.report.started(&client.label());
                self.places[place] = Place { client: Some(client), ..Place::default() };
            }
            Event::Started { place, client: Err(error) } => {
                self.places[place].failed_starts += 1;
                if self.places[place].failed_starts == FAILURES {
                    return Err(error.into());
                }
                self.report.note(&error);
                self.start(place);
            }
            Event::Answered { place, batch, answer } => {
                self.places[place].at_hand -= weight(&batch);
                match answer {
                    Ok(counted) => self.add(place, &batch, counted),
                    Err(error) => self.count_again(batch, &error),
                }
                self.replace_if_dead(place).await;
            }
        }
        Ok(())
    }

    fn add(&mut self, place: usize, batch: &[File], counted: Counted) {
        for (index, why) in &counted.left_out {
            self.report.left_out(format_args!("{}: {why}", batch[*index].path.display()));
        }
        self.report.bar.inc(batch.iter().map(|it| it.bytes).sum());
        let files = (batch.len() - counted.left_out.len()) as u64;
        self.totals.add(place, files, &counted);
    }

    fn count_again(&mut self, batch: Vec<File>, error: &CallError) {
        for mut file in batch {
            file.failures += 1;
            if file.failures < FAILURES {
                self.suspects.push(file);
            } else {
                let path = file.path.display();
                self.report.given_up(format_args!("{path}: {}", error.kind()));
                self.report.bar.inc(file.bytes);
            }
        }
    }

    /// Starts another worker in the place of one that is dead, once all of its calls have failed.
    async fn replace_if_dead(&mut self, place: usize) {
        let Place { client, at_hand: 0, .. } = &mut self.places[place] else { return };
        if let Some(dead) = client.take_if(|it| it.is_closed()) {
            self.report.note(format_args!("{}: {}", dead.label(), dead.closed().await));
            self.start(place);
        }
    }

    /// Gives every worker as much as it can have at hand.
    fn give_out(&mut self) {
        // Each gets one batch, then each a second: so the last ones go to different workers.
        for at_hand in 0..AT_HAND {
            for place in 0..self.places.len() {
                let Place { client: Some(client), at_hand: has, .. } = &self.places[place] else {
                    continue;
                };
                if *has == at_hand {
                    let client = client.clone();
                    let Some(batch) = self.next_batch(at_hand) else { continue };
                    self.places[place].at_hand += weight(&batch);
                    let files: Vec<_> = batch.iter().map(|it| it.path.clone().into()).collect();
                    self.events.spawn(async move {
                        Event::Answered { place, batch, answer: client.count(&files).await }
                    });
                }
            }
        }
    }

    fn next_batch(&mut self, at_hand: usize) -> Option<Vec<File>> {
        if !self.suspects.is_empty() {
            // By itself, so that nothing else can be what its worker dies of.
            return if at_hand == 0 { Some(vec![self.suspects.pop()?]) } else { None };
        }
        // Small towards the end, so that all workers come to it together.
        let full = BATCH_BYTES.min(self.fresh_bytes / (AT_HAND * self.places.len()) as u64);
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

/// Returns how much of what a worker can have at hand a batch takes: all of it, if it is suspect.
fn weight(batch: &[File]) -> usize {
    if batch.iter().any(|it| it.failures > 0) { AT_HAND } else { 1 }
}

/// Returns what is found, if it is a file, or why that cannot be said.
fn file(found: Result<DirEntry, ignore::Error>) -> Option<Result<File, ignore::Error>> {
    let file = found.and_then(|entry| Ok((entry.metadata()?, entry.into_path())));
    match file {
        Ok((metadata, _)) if !metadata.is_file() => None,
        Ok((metadata, path)) => Some(Ok(File { path, bytes: metadata.len(), failures: 0 })),
        Err(error) => Some(Err(error)),
    }
}
