//! Distributes the files to workers, so that each file is counted once, also if workers die.
//!
//! A call ends with an answer or with an error, and only an answer changes the totals. The files of
//! a failed call are counted again, from then on each in a call of its own. A file whose calls fail
//! `FAILURES` times is given up.

use std::path::PathBuf;

use ignore::{DirEntry, Walk};
use rpc_parallel::SpawnError;
use rpc_parallel::prelude::*;
use tokio::task::JoinSet;

use crate::count::{Counted, Counter, WordCountClient};
use crate::report::Report;
use crate::totals::Totals;

/// How many batches a worker has at a time, so that it never waits for the next one.
const AT_HAND: usize = 3;

/// The maximum size of a batch, in bytes. A larger one repeats fewer words in several answers, and
/// means that more files are counted again after a worker died.
const BATCH_BYTES: u64 = 4 << 20;

/// How many files the walk finds before it reports them.
const WALK_FILES: usize = 1000;

/// After how many failures a file, or the start of a worker, is given up.
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

/// The state of the distribution.
struct Spread<'a> {
    /// The tasks that run. The work is done when none is left.
    events: JoinSet<Event>,
    places: Vec<Place>,
    fresh: Vec<File>,
    fresh_bytes: u64,
    /// Files whose call has failed before.
    suspects: Vec<File>,
    totals: Totals,
    report: &'a mut Report,
}

/// A worker, and the workers that replace it.
#[derive(Default)]
struct Place {
    client: Option<WordCountClient>,
    at_hand: usize,
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

    /// Replaces a dead worker, after all of its calls have failed.
    async fn replace_if_dead(&mut self, place: usize) {
        let Place { client, at_hand: 0, .. } = &mut self.places[place] else { return };
        if let Some(dead) = client.take_if(|it| it.is_closed()) {
            self.report.note(format_args!("{}: {}", dead.label(), dead.closed().await));
            self.start(place);
        }
    }

    /// Gives each worker batches, up to `AT_HAND`.
    fn give_out(&mut self) {
        // Each worker gets one batch before any gets a second, so the last batches are spread.
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
            // Alone in its worker, so that only this file can crash it.
            return if at_hand == 0 { Some(vec![self.suspects.pop()?]) } else { None };
        }
        // Batches become small towards the end, so that all workers finish at about the same time.
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

/// Returns how many of the `AT_HAND` slots a batch takes: all of them if a file has failed before.
fn weight(batch: &[File]) -> usize {
    if batch.iter().any(|it| it.failures > 0) { AT_HAND } else { 1 }
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
