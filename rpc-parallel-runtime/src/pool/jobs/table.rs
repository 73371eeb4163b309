//! The table of all jobs of the program: a state machine without processes.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::end::JobEnd;
use crate::wire::fields;

/// The number of jobs whose results are gone, of which the table remembers why.
const MAX_REMEMBERED: usize = 64 * 1024;

/// All jobs that have not been joined, and the results of those that have ended.
pub(super) struct JobTable {
    /// The number of the next job. Numbers are not reused.
    next: u64,
    jobs: HashMap<u64, Entry>,
    /// The jobs that have ended, in the order of their ends. Joined jobs stay in it until they are
    /// the oldest.
    ended: VecDeque<u64>,
    /// The size of all kept results, in bytes.
    size: usize,
    max_size: usize,
    /// Why jobs have no result, except that they were joined.
    gone: HashMap<u64, Gone>,
    gone_order: VecDeque<u64>,
}

enum Entry {
    /// The process runs. The sender belongs to the process that joins the job.
    Running(Option<oneshot::Sender<JobEnd>>),
    /// The process runs, and its result is not wanted.
    Detached,
    Ended(JobEnd),
}

/// Why a job cannot be joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gone {
    /// A join has its result, or waits for it.
    Joined,
    Detached,
    /// Its result was dropped, because too many results were kept.
    Dropped,
    /// There never was such a job.
    Unknown,
}

fields!(enum Gone { 0 => Joined, 1 => Detached, 2 => Dropped, 3 => Unknown });

/// The answer to a join.
pub(super) enum Claim {
    Ended(JobEnd),
    /// The job runs. Dropping the receiver gives the claim up.
    Running(oneshot::Receiver<JobEnd>),
}

impl JobTable {
    /// Creates a table that keeps results of this size, in bytes.
    pub(super) fn new(max_size: usize) -> Self {
        Self {
            next: 1,
            jobs: HashMap::new(),
            ended: VecDeque::new(),
            size: 0,
            max_size,
            gone: HashMap::new(),
            gone_order: VecDeque::new(),
        }
    }

    /// Adds a job that runs, and returns its number.
    pub(super) fn insert(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, Entry::Running(None));
        number
    }

    /// Hands the result of a job to its joiner, or keeps it.
    pub(super) fn end(&mut self, number: u64, end: JobEnd) {
        let end = match self.jobs.remove(&number) {
            Some(Entry::Running(Some(joiner))) => match joiner.send(end) {
                Ok(()) => return,
                // The joiner has given up.
                Err(end) => end,
            },
            Some(Entry::Running(None)) => end,
            Some(Entry::Detached) => return,
            Some(Entry::Ended(_)) | None => unreachable!("a job ends once"),
        };
        self.size += end.size();
        self.jobs.insert(number, Entry::Ended(end));
        self.ended.push_back(number);
        self.drop_oldest();
    }

    /// Claims the result of a job for one joiner.
    pub(super) fn claim(&mut self, number: u64) -> Result<Claim, Gone> {
        match self.jobs.get_mut(&number) {
            Some(Entry::Running(joiner)) if is_free(joiner.as_ref()) => {
                let (sender, receiver) = oneshot::channel();
                *joiner = Some(sender);
                Ok(Claim::Running(receiver))
            }
            Some(Entry::Running(_)) => Err(Gone::Joined),
            Some(Entry::Ended(_)) => Ok(Claim::Ended(self.take(number)?)),
            Some(Entry::Detached) | None => Err(self.why_gone(number)),
        }
    }

    /// Takes the result of a job, or returns `None` if the job runs.
    pub(super) fn try_take(&mut self, number: u64) -> Result<Option<JobEnd>, Gone> {
        match self.jobs.get(&number) {
            Some(Entry::Running(joiner)) if is_free(joiner.as_ref()) => Ok(None),
            Some(Entry::Running(_)) => Err(Gone::Joined),
            Some(Entry::Ended(_)) => self.take(number).map(Some),
            Some(Entry::Detached) | None => Err(self.why_gone(number)),
        }
    }

    /// Drops the result of a job, now or when the job ends.
    pub(super) fn detach(&mut self, number: u64) -> Result<(), Gone> {
        match self.jobs.get_mut(&number) {
            Some(Entry::Running(joiner)) if !is_free(joiner.as_ref()) => Err(Gone::Joined),
            Some(running @ Entry::Running(_)) => {
                *running = Entry::Detached;
                self.remember(number, Gone::Detached);
                Ok(())
            }
            Some(Entry::Ended(_)) => {
                self.take(number)?;
                self.remember(number, Gone::Detached);
                Ok(())
            }
            Some(Entry::Detached) | None => Err(self.why_gone(number)),
        }
    }

    fn take(&mut self, number: u64) -> Result<JobEnd, Gone> {
        match self.jobs.remove(&number) {
            Some(Entry::Ended(end)) => {
                self.size -= end.size();
                self.forget_taken();
                Ok(end)
            }
            Some(_) | None => unreachable!("the callers have found a result"),
        }
    }

    /// Drops the oldest results until the others have room.
    fn drop_oldest(&mut self) {
        while self.size > self.max_size
            && let Some(oldest) = self.ended.pop_front()
        {
            if let Some(Entry::Ended(end)) = self.jobs.remove(&oldest) {
                self.size -= end.size();
                self.remember(oldest, Gone::Dropped);
            }
        }
    }

    /// Shortens the list of ended jobs, most of which may have been joined.
    fn forget_taken(&mut self) {
        let is_kept = |jobs: &HashMap<_, _>, number: &u64| jobs.contains_key(number);
        while self.ended.front().is_some_and(|it| !is_kept(&self.jobs, it)) {
            self.ended.pop_front();
        }
        if self.ended.len() > 2 * self.jobs.len() + 64 {
            self.ended.retain(|it| is_kept(&self.jobs, it));
        }
    }

    fn remember(&mut self, number: u64, gone: Gone) {
        self.gone.insert(number, gone);
        self.gone_order.push_back(number);
        if self.gone_order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    fn why_gone(&self, number: u64) -> Gone {
        match self.gone.get(&number) {
            Some(gone) => *gone,
            None if (1..self.next).contains(&number) => Gone::Joined,
            None => Gone::Unknown,
        }
    }
}

/// Returns whether no joiner waits for the job.
fn is_free(joiner: Option<&oneshot::Sender<JobEnd>>) -> bool {
    joiner.is_none_or(oneshot::Sender::is_closed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(len: usize) -> JobEnd {
        JobEnd::Value(vec![0; len].into())
    }

    fn ended(table: &mut JobTable, len: usize) -> u64 {
        let number = table.insert();
        table.end(number, end(len));
        number
    }

    fn receiver(claim: Result<Claim, Gone>) -> oneshot::Receiver<JobEnd> {
        match claim {
            Ok(Claim::Running(receiver)) => receiver,
            Ok(Claim::Ended(_)) => panic!("the job has ended"),
            Err(gone) => panic!("{gone:?}"),
        }
    }

    #[test]
    fn result_is_taken_once() {
        let mut table = JobTable::new(10_000);
        let number = ended(&mut table, 1);

        assert_eq!(table.try_take(number), Ok(Some(end(1))));

        assert_eq!(table.try_take(number), Err(Gone::Joined));
        assert_eq!(table.claim(number).err(), Some(Gone::Joined));
        assert_eq!(table.detach(number), Err(Gone::Joined));
        assert_eq!((table.size, table.ended.len()), (0, 0));
    }

    #[test]
    fn second_joiner_of_running_job_is_refused_at_once() {
        let mut table = JobTable::new(10_000);
        let number = table.insert();
        let mut first = receiver(table.claim(number));

        assert_eq!(table.claim(number).err(), Some(Gone::Joined));
        assert_eq!(table.try_take(number), Err(Gone::Joined));
        table.end(number, end(1));

        assert_eq!(first.try_recv(), Ok(end(1)));
        assert_eq!(table.claim(number).err(), Some(Gone::Joined));
    }

    #[test]
    fn joiner_that_gives_up_leaves_job_to_next_joiner() {
        let mut table = JobTable::new(10_000);
        let number = table.insert();
        drop(receiver(table.claim(number)));

        assert_eq!(table.try_take(number), Ok(None));
        drop(receiver(table.claim(number)));
        table.end(number, end(1));

        assert_eq!(table.try_take(number), Ok(Some(end(1))));
    }

    #[test]
    fn detached_job_keeps_no_result() {
        let mut table = JobTable::new(10_000);
        let (running, done) = (table.insert(), ended(&mut table, 1));

        assert_eq!((table.detach(running), table.detach(done)), (Ok(()), Ok(())));
        table.end(running, end(1));

        assert_eq!(table.try_take(running), Err(Gone::Detached));
        assert_eq!(table.try_take(done), Err(Gone::Detached));
        assert_eq!((table.size, table.jobs.len()), (0, 0));
    }

    #[test]
    fn oldest_results_are_dropped_beyond_limit() {
        let mut table = JobTable::new(3 * end(100).size());
        let numbers: Vec<_> = (0..5).map(|_| ended(&mut table, 100)).collect();
        let too_large = ended(&mut JobTable::new(10), 100);

        let taken: Vec<_> = numbers.iter().map(|it| table.try_take(*it)).collect();

        let kept = Ok(Some(end(100)));
        let dropped = Err(Gone::Dropped);
        assert_eq!(taken, [dropped.clone(), dropped, kept.clone(), kept.clone(), kept]);
        assert_eq!(too_large, 1);
    }

    #[test]
    fn number_that_was_not_given_is_unknown() {
        let mut table = JobTable::new(10_000);
        table.insert();

        for number in [0, 2, u64::MAX] {
            assert_eq!(table.try_take(number), Err(Gone::Unknown));
        }
    }

    proptest! {
        #[test]
        fn each_result_is_given_at_most_once_and_memory_is_bounded(
            steps in proptest::collection::vec((0..5_u8, 0..8_u64, 0..400_usize), 0..200),
        ) {
            let mut table = JobTable::new(1500);
            let (mut running, mut taken) = (Vec::new(), std::collections::HashSet::new());
            let mut joiners = Vec::new();
            for (step, index, len) in steps {
                let number = 1 + index;
                match step {
                    0 => running.push(table.insert()),
                    1 if !running.is_empty() => {
                        let number = running.remove(index as usize % running.len());
                        table.end(number, end(len));
                    }
                    2 => match table.claim(number) {
                        Ok(Claim::Ended(_)) => prop_assert!(taken.insert(number)),
                        Ok(Claim::Running(receiver)) => joiners.push((number, receiver)),
                        Err(_) => {}
                    },
                    3 => if let Ok(Some(_)) = table.try_take(number) {
                        prop_assert!(taken.insert(number));
                    },
                    _ => if len % 2 == 0 { let _ = table.detach(number); } else { joiners.pop(); },
                }
                prop_assert!(table.size <= 1500);
                prop_assert!(table.ended.len() <= 2 * table.jobs.len() + 65);
            }
            for (number, mut receiver) in joiners {
                if receiver.try_recv().is_ok() {
                    prop_assert!(taken.insert(number));
                }
            }
        }
    }
}
