//! When a failed worker is restarted.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Progress;

/// Whether, when and how often a failed worker is restarted, see
/// [`Spawner::restart`](super::Spawner::restart).
///
/// | preset | for | counts against the limit |
/// |---|---|---|
/// | [`never`](Self::never) (default) | workers that hold state that cannot be made again | |
/// | [`on_failure`](Self::on_failure) | services, where each failure is one too many | every failure |
/// | [`for_batch`](Self::for_batch) | many independent inputs, some of which kill their worker | failures before the first call |
///
/// ```text
/// let fragile = Fragile::spawner()
///     .restart(RestartPolicy::on_failure().limit(10, Duration::from_secs(60)))
///     .spawn(())
///     .await?;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "it does nothing until it is given to a spawner"]
pub struct RestartPolicy(Option<Policy>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Policy {
    first: Duration,
    most: Duration,
    times: u32,
    within: Duration,
    attribution: Attribution,
}

/// What a failure is attributed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attribution {
    /// The worker: every failure counts against the limit.
    Worker,
    /// The inputs, once the process has received a call.
    Inputs,
}

impl RestartPolicy {
    /// Does not restart the worker. This is the default.
    pub fn never() -> Self {
        Self(None)
    }

    /// Restarts a worker that has failed, for services.
    ///
    /// A worker whose end was requested is not restarted, however it ended.
    ///
    /// [Back-off](Self::backoff): 100 ms to 30 s; a process that has run for more than 30 s resets it.
    /// [Limit](Self::limit): 5 restarts within 60 s; every failure counts.
    pub fn on_failure() -> Self {
        Self(Some(Policy {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            times: 5,
            within: Duration::from_secs(60),
            attribution: Attribution::Worker,
        }))
    }

    /// Restarts a worker that has failed, for a batch of independent inputs some of which kill their
    /// worker (poison messages).
    ///
    /// A failure is attributed to the inputs if the process had received a call. Such a failure does
    /// not count against the limit, so any number of inputs may kill their worker: each costs one
    /// process and its own call. Calls in flight beside it fail as well, with
    /// [`WorkerDied`](crate::CallErrorKind::WorkerDied).
    ///
    /// A crash loop is still given up. A process that does not start (its `init` fails, panics or
    /// dies), or that fails before it has received a call, counts against the limit.
    ///
    /// [Back-off](Self::backoff): 10 ms to 1 s; a process that has answered a call, or that has run
    /// for more than 1 s, resets it. So the delay grows only while one input after the other kills
    /// its worker. [Limit](Self::limit): 5 restarts within 60 s.
    ///
    /// The calls that decide are those of the process that started the worker, over connections
    /// that are open when the worker fails. One-way calls, and calls of other processes to a
    /// [started](super::Spawner::start) worker, are not seen.
    ///
    /// ```text
    /// let parser = Parser::spawner().restart(RestartPolicy::for_batch()).spawn(()).await?;
    /// for file in files {
    ///     match parser.parse(&file).await {
    ///         Ok(parsed) => keep(parsed),
    ///         Err(error) => set_aside(file, error), // the next call goes to a new process
    ///     }
    /// }
    /// ```
    pub fn for_batch() -> Self {
        Self(Some(Policy {
            first: Duration::from_millis(10),
            most: Duration::from_secs(1),
            times: 5,
            within: Duration::from_secs(60),
            attribution: Attribution::Inputs,
        }))
    }

    /// Sets the delay before a restart: from `first` to twice `first` after the first failure, twice
    /// that after each that follows, and never longer than `most`.
    ///
    /// Delays are jittered. A process that has run for longer than `most` resets the delay to
    /// `first`, and under [`for_batch`](Self::for_batch) a process that has answered a call as well.
    /// Has no effect on [`never`](Self::never).
    pub fn backoff(mut self, times: RangeInclusive<Duration>) -> Self {
        if let Some(policy) = &mut self.0 {
            let (first, most) = times.into_inner();
            (policy.first, policy.most) = (first, most.max(first));
        }
        self
    }

    /// Sets how many restarts are allowed within this time. After one more failure the worker is not
    /// restarted: calls fail with [`RestartLimitReached`](crate::CallErrorKind::RestartLimitReached), which holds the last
    /// failure.
    ///
    /// A restart that fails counts too. The preset decides which failures count, see
    /// [`on_failure`](Self::on_failure) and [`for_batch`](Self::for_batch). `u32::MAX` is no limit.
    /// Has no effect on [`never`](Self::never).
    pub fn limit(mut self, times: u32, within: Duration) -> Self {
        if let Some(policy) = &mut self.0 {
            (policy.times, policy.within) = (times, within);
        }
        self
    }

    /// Begins to count; none if there is nothing to count.
    pub(super) fn begin(self) -> Option<Restarts> {
        let policy = self.0?;
        Some(Restarts { policy, begun: VecDeque::new(), in_a_row: 0 })
    }
}

/// What a process had done when it failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessRecord {
    pub(super) uptime: Duration,
    pub(super) progress: Progress,
}

/// The restarts of one worker.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: Policy,
    /// When the failures were that led to them, as far as they count against the limit.
    begun: VecDeque<Instant>,
    /// How many there were since the worker last served for long.
    in_a_row: u32,
}

/// The limit that has been reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LimitReached {
    pub(super) times: u32,
    pub(super) within: Duration,
}

impl Restarts {
    /// Returns the delay before the restart of the worker, which has failed now.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(super) fn next(&mut self, served: ProcessRecord) -> Result<Duration, LimitReached> {
        let Policy { first, most, attribution, .. } = self.policy;
        if attribution == Attribution::Worker || !served.progress.called {
            self.count()?;
        }
        let progressed = attribution == Attribution::Inputs && served.progress.answered;
        if progressed || served.uptime > most {
            self.in_a_row = 0;
        }
        let doubled = 2_u32.checked_pow(self.in_a_row).and_then(|it| first.checked_mul(it));
        self.in_a_row = self.in_a_row.saturating_add(1);
        let least = doubled.unwrap_or(most).min(first.max(most / 2));
        let longest = least.saturating_mul(2).min(most);
        Ok(least + part_of(longest - least))
    }

    /// Counts a restart against the limit.
    fn count(&mut self) -> Result<(), LimitReached> {
        let Policy { times, within, .. } = self.policy;
        let now = Instant::now();
        while self.begun.front().is_some_and(|it| now.duration_since(*it) >= within) {
            self.begun.pop_front();
        }
        if self.begun.len() >= times as usize {
            return Err(LimitReached { times, within });
        }
        self.begun.push_back(now);
        Ok(())
    }
}

/// Returns a part of a time, which chance decides.
fn part_of(time: Duration) -> Duration {
    const PARTS: u32 = 1 << 16;
    let random = RandomState::new().build_hasher().finish() as u32;
    time / PARTS * (random % PARTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BRIEFLY: Duration = Duration::ZERO;

    /// Returns a process that failed after this time without calls.
    fn ran(uptime: Duration) -> ProcessRecord {
        ProcessRecord { uptime, ..ProcessRecord::default() }
    }

    fn unlimited(first: Duration, most: Duration) -> Restarts {
        let restart = RestartPolicy::on_failure().backoff(first..=most).limit(u32::MAX, SECOND);
        restart.begin().expect("failures restart")
    }

    #[test]
    fn default_policy_restarts_nothing() {
        assert_eq!(RestartPolicy::default(), RestartPolicy::never());
        assert!(RestartPolicy::never().limit(7, SECOND).backoff(SECOND..=SECOND).begin().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_from_first_to_maximum() {
        let mut restarts = unlimited(SECOND, 60 * SECOND);

        let waits: Vec<_> =
            (0..50).map(|_| restarts.next(ran(BRIEFLY)).expect("no limit")).collect();

        for (number, wait) in waits.iter().enumerate() {
            let least = (SECOND * 2_u32.pow(number.min(10) as u32)).min(30 * SECOND);
            assert!((least..=2 * least).contains(wait), "{number}: {wait:?}");
        }
        assert!(waits[10..].iter().any(|it| *it != waits[10]), "delays are jittered");
    }

    #[tokio::test(start_paused = true)]
    async fn long_running_worker_resets_delay() {
        let mut restarts = unlimited(SECOND, 60 * SECOND);
        for _ in 0..10 {
            restarts.next(ran(BRIEFLY)).expect("no limit");
        }

        assert!(restarts.next(ran(60 * SECOND)).is_ok_and(|it| it >= 30 * SECOND));
        assert!(restarts.next(ran(61 * SECOND)).is_ok_and(|it| it <= 2 * SECOND));
        assert!(restarts.next(ran(BRIEFLY)).is_ok_and(|it| it >= 2 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_beyond_limit_are_refused_within_window() {
        let restart = RestartPolicy::on_failure().backoff(BRIEFLY..=BRIEFLY).limit(2, 10 * SECOND);
        let mut restarts = restart.begin().expect("failures restart");
        let too_often = Err(LimitReached { times: 2, within: 10 * SECOND });

        assert_eq!(restarts.next(ran(BRIEFLY)), Ok(BRIEFLY));
        advance(6 * SECOND).await;
        assert_eq!(restarts.next(ran(BRIEFLY)), Ok(BRIEFLY));
        advance(3 * SECOND).await;
        assert_eq!(restarts.next(ran(BRIEFLY)), too_often);
        advance(SECOND).await;
        assert_eq!(restarts.next(ran(BRIEFLY)), Ok(BRIEFLY));
        assert_eq!(restarts.next(ran(BRIEFLY)), too_often);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_of_zero_refuses_first_restart() {
        let mut restarts = RestartPolicy::on_failure().limit(0, SECOND).begin().expect("it counts");

        assert_eq!(restarts.next(ran(BRIEFLY)), Err(LimitReached { times: 0, within: SECOND }));
    }

    const CALLED: Progress = Progress { called: true, answered: false };
    const ANSWERED: Progress = Progress { called: true, answered: true };

    #[tokio::test(start_paused = true)]
    async fn batch_counts_only_processes_that_fail_before_a_call() {
        let mut restarts = RestartPolicy::for_batch().begin().expect("failures restart");
        for progress in [CALLED, ANSWERED] {
            for _ in 0..100 {
                let called = ProcessRecord { uptime: BRIEFLY, progress };
                restarts.next(called).expect("it does not count");
            }
        }

        for _ in 0..5 {
            restarts.next(ran(BRIEFLY)).expect("it is within the limit");
        }

        let too_often = LimitReached { times: 5, within: 60 * SECOND };
        assert_eq!(restarts.next(ran(BRIEFLY)), Err(too_often));
    }

    #[tokio::test(start_paused = true)]
    async fn batch_delay_grows_until_call_is_answered() {
        let millis = Duration::from_millis;
        let mut restarts = RestartPolicy::for_batch().begin().expect("failures restart");
        let called = ProcessRecord { uptime: BRIEFLY, progress: CALLED };
        let answered = ProcessRecord { uptime: BRIEFLY, progress: ANSWERED };

        let delays: Vec<_> = (0..3).map(|_| restarts.next(called).expect("no limit")).collect();

        for (delay, least) in delays.iter().zip([10, 20, 40]) {
            assert!((millis(least)..=millis(2 * least)).contains(delay), "{delays:?}");
        }
        for _ in 0..10 {
            assert!(restarts.next(answered).is_ok_and(|it| it <= millis(20)));
        }
    }

    proptest! {
        #[test]
        fn jittered_delay_stays_within_bounds(
            first in any::<Duration>(),
            most in any::<Duration>(),
            failures in 0..100_u32,
        ) {
            let policy = RestartPolicy::on_failure().backoff(first..=most).0.expect("it is one");
            let mut restarts = Restarts { policy, begun: VecDeque::new(), in_a_row: failures };

            let wait = restarts.next(ran(BRIEFLY)).expect("it is the first one");

            prop_assert!((first..=most.max(first)).contains(&wait), "{wait:?}");
        }
    }
}
