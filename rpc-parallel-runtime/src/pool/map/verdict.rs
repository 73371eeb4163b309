//! What a finished map says of itself: how busy its workers were, and what they waited for.

use std::fmt;
use std::time::Duration;

use super::progress::Progress;
use crate::pool::engine::VerdictData;

/// How busy the workers of a map were, and what they waited for.
///
/// `Display` writes one line, for example:
///
/// ```text
/// 5000 items in 2.1 s (2381/s) by 2 workers: 41 % busy, waiting for the source
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// The counts of items at the end.
    pub progress: Progress,
    /// One entry per process of a worker, also of those that have died.
    pub workers: Vec<WorkerShare>,
    /// The part of their time in which the workers ran items, between 0 and 1.
    pub busy: f64,
    /// What the workers waited for most, if they were not busy.
    pub bottleneck: Bottleneck,
}

/// What one worker did for a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerShare {
    /// The number of items that the worker has answered.
    pub items: u64,
    /// The time in which it ran items.
    pub busy: Duration,
    /// The time in which it belonged to the map.
    pub present: Duration,
}

/// What limited the speed of a map.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Bottleneck {
    /// The workers were busy: more cores would make the map faster.
    Workers,
    /// The workers waited for the source.
    Source,
    /// The workers waited for the consumer of the results.
    Consumer,
    /// Items waited for workers to start.
    Starting,
    /// At the end, some workers had nothing to do while others ran the last items.
    LastItems,
    /// One item took a large part of the time.
    OneItem {
        /// The index of the item.
        index: u64,
        /// The part of the time of the map, between 0 and 1.
        share: f64,
    },
    /// The items are so short that sending them takes longer than running them.
    ShortItems,
    /// Workers died, and their replacements had to start.
    Replacements,
    /// The workers waited for a processor: other processes, or this one, used the cores.
    Processor,
}

/// Below this average duration, items are short.
const SHORT_ITEM: Duration = Duration::from_micros(20);

/// Above this the workers count as busy.
const BUSY: f64 = 0.9;

/// From this part of the time of a map on, one item is named.
const LONG_ITEM: f64 = 0.5;

impl Verdict {
    pub(super) fn new(data: VerdictData, progress: Progress) -> Self {
        let present: Duration = data.workers.iter().map(|it| it.present).sum();
        let in_items: Duration = data.workers.iter().map(|it| it.busy).sum();
        let busy = share(in_items, present);
        let workers = data.workers.iter().map(|it| WorkerShare {
            items: it.items,
            busy: it.busy,
            present: it.present,
        });
        let rest = match progress.done + progress.failed {
            _ if progress.deaths > 0 => Bottleneck::Replacements,
            items if in_items.as_secs_f64() < SHORT_ITEM.as_secs_f64() * items as f64 => {
                Bottleneck::ShortItems
            }
            _ => Bottleneck::Processor,
        };
        let (workers, bottleneck) = (workers.collect(), bottleneck(&data, busy, present, rest));
        Self { progress, workers, busy, bottleneck }
    }
}

/// Returns what took the largest part of the time. `rest` is the cause of what was neither spent in
/// items nor idle.
fn bottleneck(data: &VerdictData, busy: f64, present: Duration, rest: Bottleneck) -> Bottleneck {
    if let Some(longest) = data.longest.filter(|it| it.items == 1) {
        let share = share(longest.time, data.wall);
        // With a single worker, or a single item, nothing waits for it.
        if share >= LONG_ITEM && busy < BUSY {
            return Bottleneck::OneItem { index: longest.first_index, share };
        }
    }
    if busy >= BUSY {
        return Bottleneck::Workers;
    }
    let waits = [
        (data.idle_source, Bottleneck::Source),
        (data.idle_consumer, Bottleneck::Consumer),
        (data.no_worker, Bottleneck::Starting),
        (data.idle_tail, Bottleneck::LastItems),
    ];
    let [first, others @ ..] = waits;
    let longest = others.into_iter().fold(first, |a, b| if b.0 > a.0 { b } else { a });
    let idle = data.idle_source + data.idle_consumer + data.idle_tail;
    let unexplained = (1.0 - busy - share(idle, present)).max(0.0);
    if unexplained > share(longest.0, present) { rest } else { longest.1 }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64()).min(1.0) }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { done, failed, deaths, elapsed, .. } = self.progress;
        let count = self.workers.iter().filter(|it| it.items > 0).count();
        let workers = if count == 1 { "worker" } else { "workers" };
        write!(
            f,
            "{} items in {:.3} s ({:.0}/s)",
            done + failed,
            elapsed.as_secs_f64(),
            self.progress.rate()
        )?;
        write!(f, " by {count} {workers}")?;
        if failed > 0 || deaths > 0 {
            write!(f, ", {failed} failed, {deaths} workers died")?;
        }
        write!(f, ": {:.0} % busy", 100.0 * self.busy)?;
        match self.bottleneck {
            Bottleneck::Workers => Ok(()),
            other => write!(f, ", {other}"),
        }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers => f.write_str("limited by the workers"),
            Self::Source => f.write_str("waiting for the source"),
            Self::Consumer => f.write_str("waiting for the consumer of the results"),
            Self::Starting => f.write_str("waiting for workers to start"),
            Self::LastItems => f.write_str("waiting for the last items"),
            Self::OneItem { index, share } => {
                write!(f, "item {index} took {:.0} % of the time", 100.0 * share)
            }
            Self::ShortItems => f.write_str("the items are shorter than sending them takes"),
            Self::Replacements => f.write_str("waiting for workers to be replaced"),
            Self::Processor => f.write_str("waiting for a processor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::engine::{LongestBatch, WorkerKey, WorkerTime};

    const SECOND: Duration = Duration::from_secs(1);

    fn data(busy: [Duration; 2]) -> VerdictData {
        let worker = |(at, busy)| WorkerTime {
            worker: WorkerKey(at),
            present: 10 * SECOND,
            busy,
            items: 50,
        };
        VerdictData {
            workers: (0..).zip(busy).map(worker).collect(),
            wall: 10 * SECOND,
            idle_source: Duration::ZERO,
            idle_consumer: Duration::ZERO,
            idle_tail: Duration::ZERO,
            no_worker: Duration::ZERO,
            longest: None,
        }
    }

    fn verdict(data: VerdictData) -> Verdict {
        let progress = Progress { done: 100, elapsed: 10 * SECOND, ..Progress::default() };
        Verdict::new(data, progress)
    }

    #[test]
    fn busy_workers_are_the_bottleneck() {
        let verdict = verdict(data([10 * SECOND, 9 * SECOND]));

        assert_eq!(verdict.bottleneck, Bottleneck::Workers);
        assert_eq!(verdict.to_string(), "100 items in 10.000 s (10/s) by 2 workers: 95 % busy");
    }

    #[test]
    fn idle_workers_name_what_they_waited_for() {
        let idle_source = 12 * SECOND;
        let verdict = verdict(VerdictData { idle_source, ..data([4 * SECOND, 4 * SECOND]) });

        assert_eq!(
            verdict.to_string(),
            "100 items in 10.000 s (10/s) by 2 workers: 40 % busy, waiting for the source"
        );
    }

    #[test]
    fn long_item_is_named() {
        let longest = Some(LongestBatch { first_index: 7, items: 1, time: 8 * SECOND });
        let idle_tail = 8 * SECOND;
        let verdict =
            verdict(VerdictData { longest, idle_tail, ..data([10 * SECOND, 2 * SECOND]) });

        assert_eq!(verdict.bottleneck, Bottleneck::OneItem { index: 7, share: 0.8 });
    }

    #[test]
    fn unexplained_time_has_cause_by_deaths_and_length_of_items() {
        let data = || data([SECOND, SECOND]);
        let progress = Progress { done: 100, elapsed: 10 * SECOND, ..Progress::default() };

        let long = Verdict::new(data(), progress);
        let short = Verdict::new(data(), Progress { done: 1_000_000, ..progress });
        let deadly = Verdict::new(data(), Progress { deaths: 3, ..progress });

        assert_eq!(long.bottleneck, Bottleneck::Processor);
        assert_eq!(short.bottleneck, Bottleneck::ShortItems);
        assert_eq!(deadly.bottleneck, Bottleneck::Replacements);
    }
}
