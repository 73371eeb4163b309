//! When a worker that has failed is started again.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

/// Says whether a worker that has failed is started again, after how long, and how often: see
/// [`Spawner::restart`](super::Spawner::restart).
///
/// ```text
/// let fragile = Fragile::spawner()
///     .restart(Restart::on_failure().limit(10, Duration::from_secs(60)))
///     .spawn(())
///     .await?;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "it does nothing until it is given to a spawner"]
pub struct Restart(Option<Policy>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Policy {
    first: Duration,
    most: Duration,
    times: u32,
    within: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
            times: 5,
            within: Duration::from_secs(60),
        }
    }
}

impl Restart {
    /// A worker that has ended stays dead. This is the default.
    pub fn never() -> Self {
        Self(None)
    }

    /// A worker that has failed is started again: not one that has ended because it was told to, or
    /// because nobody needs it any more.
    ///
    /// It waits as [`backoff`](Self::backoff) says, from 100 milliseconds up to 30 seconds, and gives
    /// up as [`limit`](Self::limit) says, after five restarts within a minute.
    pub fn on_failure() -> Self {
        Self(Some(Policy::default()))
    }

    /// Sets how long to wait before a worker is started again: from `first` to twice as long after
    /// the first failure, twice that after each that follows, and never longer than `most`.
    ///
    /// Chance decides, so that workers that failed together do not come back together. For a worker
    /// that has served for longer than `most` it begins anew. Changes nothing of
    /// [`never`](Self::never).
    pub fn backoff(mut self, times: RangeInclusive<Duration>) -> Self {
        if let Some(policy) = &mut self.0 {
            let (first, most) = times.into_inner();
            (policy.first, policy.most) = (first, most.max(first));
        }
        self
    }

    /// Sets how many times a worker may be started again within this time. When it fails once more
    /// it stays dead, and whoever needs it is told so, and of what it died the last time.
    ///
    /// What was to be started again and did not start counts too. `u32::MAX` times is as often as it
    /// takes. Changes nothing of [`never`](Self::never).
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
pub(super) struct TooOften {
    pub(super) times: u32,
    pub(super) within: Duration,
}

impl Restarts {
    /// Returns how long to wait before the worker, which has failed now, is started again.
    pub(super) fn next(&mut self, served: Duration) -> Result<Duration, TooOften> {
        let Policy { first, most, times, within } = self.policy;
        let now = Instant::now();
        while self.begun.front().is_some_and(|it| now.duration_since(*it) >= within) {
            self.begun.pop_front();
        }
        if self.begun.len() >= times as usize {
            return Err(TooOften { times, within });
        }
        if served > most {
            self.in_a_row = 0;
        }
        let doubled = 2_u32.checked_pow(self.in_a_row).and_then(|it| first.checked_mul(it));
        self.in_a_row = self.in_a_row.saturating_add(1);
        let least = doubled.unwrap_or(most).min(first.max(most / 2));
        let longest = least.saturating_mul(2).min(most);
        self.begun.push_back(now);
        Ok(least + part_of(longest - least))
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

    fn unlimited(first: Duration, most: Duration) -> Restarts {
        let restart = Restart::on_failure().backoff(first..=most).limit(u32::MAX, SECOND);
        restart.begin().expect("failures restart")
    }

    #[test]
    fn nothing_is_restarted_by_default() {
        assert_eq!(Restart::default(), Restart::never());
        assert!(Restart::never().limit(7, SECOND).backoff(SECOND..=SECOND).begin().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_from_the_first_to_the_most() {
        let mut restarts = unlimited(SECOND, 60 * SECOND);

        let waits: Vec<_> = (0..50).map(|_| restarts.next(BRIEFLY).expect("no limit")).collect();

        for (number, wait) in waits.iter().enumerate() {
            let least = (SECOND * 2_u32.pow(number.min(10) as u32)).min(30 * SECOND);
            assert!((least..=2 * least).contains(wait), "{number}: {wait:?}");
        }
        assert!(waits[10..].iter().any(|it| *it != waits[10]), "chance has a part in it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_has_served_for_long_begins_anew() {
        let mut restarts = unlimited(SECOND, 60 * SECOND);
        for _ in 0..10 {
            restarts.next(BRIEFLY).expect("no limit");
        }

        assert!(restarts.next(60 * SECOND).is_ok_and(|it| it >= 30 * SECOND));
        assert!(restarts.next(61 * SECOND).is_ok_and(|it| it <= 2 * SECOND));
        assert!(restarts.next(BRIEFLY).is_ok_and(|it| it >= 2 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn one_restart_too_many_is_none_until_others_are_long_ago() {
        let restart = Restart::on_failure().backoff(BRIEFLY..=BRIEFLY).limit(2, 10 * SECOND);
        let mut restarts = restart.begin().expect("failures restart");
        let too_often = Err(TooOften { times: 2, within: 10 * SECOND });

        assert_eq!(restarts.next(BRIEFLY), Ok(BRIEFLY));
        advance(6 * SECOND).await;
        assert_eq!(restarts.next(BRIEFLY), Ok(BRIEFLY));
        advance(3 * SECOND).await;
        assert_eq!(restarts.next(BRIEFLY), too_often);
        advance(SECOND).await;
        assert_eq!(restarts.next(BRIEFLY), Ok(BRIEFLY));
        assert_eq!(restarts.next(BRIEFLY), too_often);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_none_gives_up_at_once() {
        let mut restarts = Restart::on_failure().limit(0, SECOND).begin().expect("it counts");

        assert_eq!(restarts.next(BRIEFLY), Err(TooOften { times: 0, within: SECOND }));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_less_than_the_first_nor_more_than_the_most(
            first in any::<Duration>(),
            most in any::<Duration>(),
            failures in 0..100_u32,
        ) {
            let policy = Restart::on_failure().backoff(first..=most).0.expect("it is one");
            let mut restarts = Restarts { policy, begun: VecDeque::new(), in_a_row: failures };

            let wait = restarts.next(BRIEFLY).expect("it is the first one");

            prop_assert!((first..=most.max(first)).contains(&wait), "{wait:?}");
        }
    }
}
