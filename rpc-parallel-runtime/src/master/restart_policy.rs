//! The restart policy: whether, when and how often a failed worker is restarted.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::Progress;

/// The policy that decides whether, when and how often a failed worker is restarted.
/// [`Spawner::restart`](super::Spawner::restart) sets it.
///
/// | preset | for | counts against the limit |
/// |---|---|---|
/// | [`never`](Self::never) (default) | workers whose state cannot be rebuilt | |
/// | [`on_failure`](Self::on_failure) | services, in which no failure is expected | every failure |
/// | [`for_batch`](Self::for_batch) | many independent inputs, some of which kill their worker | failures before the first call |
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::prelude::*;
///
/// # #[rpc_parallel::worker]
/// # trait Parse { async fn parse(&self, text: &str) -> usize; }
/// # #[derive(Default, WorkerState)]
/// # struct Parser;
/// # #[rpc_parallel::worker]
/// # impl Parse for Parser {
/// #     async fn parse(&self, text: &str) -> usize { text.len() }
/// # }
/// # async fn example() -> Result<(), AnyError> {
/// let parser = Parser::spawner()
///     .restart(RestartPolicy::on_failure().limit(10, Duration::from_secs(60)))
///     .spawn(())
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a policy does nothing until a spawner has it"]
pub struct RestartPolicy(Option<Policy>);

/// The policy of a worker that is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Policy {
    /// The smallest delay before a restart.
    min_delay: Duration,
    /// The largest delay before a restart.
    max_delay: Duration,
    /// The number of restarts that the limit allows.
    times: u32,
    /// The time within which the limit allows them.
    within: Duration,
    attribution: Attribution,
}

/// The cause that a failure is attributed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attribution {
    /// The worker. Every failure counts against the limit.
    Worker,
    /// The inputs, if the process has received a call. Such a failure does not count.
    Inputs,
}

impl RestartPolicy {
    /// Returns the policy that does not restart the worker. This is the default.
    pub fn never() -> Self {
        Self(None)
    }

    /// Returns the policy for services: it restarts a worker that has failed, and every failure
    /// counts against the limit.
    ///
    /// A worker whose end was requested is not restarted, however it ended.
    ///
    /// Default [back-off](Self::backoff): 100 ms to 30 s; a process that has run for more than 30 s
    /// resets it. Default [limit](Self::limit): 5 restarts within 60 s.
    pub fn on_failure() -> Self {
        Self(Some(Policy {
            min_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(30),
            times: 5,
            within: Duration::from_secs(60),
            attribution: Attribution::Worker,
        }))
    }

    /// Returns the policy for a batch of independent inputs some of which kill their worker (poison
    /// messages): it restarts a worker that has failed, and a failure counts against the limit only
    /// if the process had not received a call.
    ///
    /// A failure after the first call is attributed to the inputs. So any number of inputs may kill
    /// their worker. Each costs one process and its own call. Other calls in flight at that moment
    /// fail as well, with [`WorkerDied`](crate::CallErrorKind::WorkerDied).
    ///
    /// The limit still ends a crash loop. A process counts that does not start, because its `init`
    /// fails or panics, or because it ends during `init`. A process that fails before it has
    /// received a call counts, too.
    ///
    /// Default [back-off](Self::backoff): 10 ms to 1 s; a process that has answered a call, or has
    /// run for more than 1 s, resets it. So the delay grows only while consecutive inputs kill
    /// their worker. Default [limit](Self::limit): 5 restarts within 60 s.
    ///
    /// Only calls of the process that started the worker are considered, over connections that are
    /// open when the worker fails. One-way calls, and calls of other processes to a
    /// [started](super::Spawner::start) worker, are not considered.
    ///
    /// ```
    /// # use std::path::{Path, PathBuf};
    /// use rpc_parallel::prelude::*;
    ///
    /// # #[rpc_parallel::worker]
    /// # trait Parse { async fn parse(&self, file: &Path) -> usize; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Parser;
    /// # #[rpc_parallel::worker]
    /// # impl Parse for Parser {
    /// #     async fn parse(&self, file: &Path) -> usize { file.as_os_str().len() }
    /// # }
    /// # async fn example(files: Vec<PathBuf>) -> Result<(), AnyError> {
    /// let parser = Parser::spawner().restart(RestartPolicy::for_batch()).spawn(()).await?;
    /// for file in files {
    ///     match parser.parse(&file).await {
    ///         Ok(parsed) => println!("{}: {parsed}", file.display()),
    ///         // The next call goes to a new process.
    ///         Err(error) => eprintln!("{}: {error}", file.display()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_batch() -> Self {
        Self(Some(Policy {
            min_delay: Duration::from_millis(10),
            max_delay: Duration::from_secs(1),
            times: 5,
            within: Duration::from_secs(60),
            attribution: Attribution::Inputs,
        }))
    }

    /// Sets the smallest and the largest delay before a restart. Default: that of the preset.
    ///
    /// Delays are jittered and grow exponentially: the first is between the start of the range and
    /// twice that, the bounds double with each consecutive failure, and no delay exceeds the end of
    /// the range. A process that has run for longer than the end of the range resets the delay, and
    /// under [`for_batch`](Self::for_batch) so does a process that has answered a call.
    ///
    /// If the end of the range is less than its start, it is raised to the start. Has no effect on
    /// [`never`](Self::never).
    pub fn backoff(mut self, delays: RangeInclusive<Duration>) -> Self {
        if let Some(policy) = &mut self.0 {
            let (min, max) = delays.into_inner();
            (policy.min_delay, policy.max_delay) = (min, max.max(min));
        }
        self
    }

    /// Sets the limit: the number of restarts that are allowed within a time. Default: that of the
    /// preset.
    ///
    /// When one more failure counts, the worker is not restarted. Calls then fail with
    /// [`RestartLimitReached`](crate::CallErrorKind::RestartLimitReached), which holds the failure
    /// report of the last process. `u32::MAX` means no limit.
    ///
    /// A restart that fails counts, too. The preset decides which failures count, see
    /// [`on_failure`](Self::on_failure) and [`for_batch`](Self::for_batch). Has no effect on
    /// [`never`](Self::never).
    pub fn limit(mut self, times: u32, within: Duration) -> Self {
        if let Some(policy) = &mut self.0 {
            (policy.times, policy.within) = (times, within);
        }
        self
    }

    /// Starts to track the restarts of a worker. Returns `None` if the policy does not restart.
    pub(crate) fn track(self) -> Option<Restarts> {
        let policy = self.0?;
        Some(Restarts { policy, counted: VecDeque::new(), consecutive: 0 })
    }
}

/// The uptime of a process when it failed, and the progress of its calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessRecord {
    pub(crate) uptime: Duration,
    pub(crate) progress: Progress,
}

/// The restarts of one worker, or of one connection.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: Policy,
    /// The times of the failures that count against the limit and are recent enough for it.
    counted: VecDeque<Instant>,
    /// The number of failures since the delay was reset.
    consecutive: u32,
}

/// The limit that has been reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LimitReached {
    pub(crate) times: u32,
    pub(crate) within: Duration,
}

impl Restarts {
    /// Returns the delay before the restart of a process that has just failed.
    ///
    /// # Errors
    ///
    /// The limit is reached.
    pub(crate) fn next(&mut self, failed: ProcessRecord) -> Result<Duration, LimitReached> {
        let Policy { min_delay, max_delay, attribution, .. } = self.policy;
        if attribution == Attribution::Worker || failed.progress.called == 0 {
            self.count()?;
        }
        let progressed = attribution == Attribution::Inputs && failed.progress.answered > 0;
        if progressed || failed.uptime > max_delay {
            self.consecutive = 0;
        }
        let doubled = 2_u32.checked_pow(self.consecutive).and_then(|it| min_delay.checked_mul(it));
        self.consecutive = self.consecutive.saturating_add(1);
        let shortest = doubled.unwrap_or(max_delay).min(min_delay.max(max_delay / 2));
        let longest = shortest.saturating_mul(2).min(max_delay);
        Ok(shortest + random_part_of(longest - shortest))
    }

    /// Counts a failure against the limit.
    fn count(&mut self) -> Result<(), LimitReached> {
        let Policy { times, within, .. } = self.policy;
        let now = Instant::now();
        while self.counted.front().is_some_and(|it| now.duration_since(*it) >= within) {
            self.counted.pop_front();
        }
        if self.counted.len() >= times as usize {
            return Err(LimitReached { times, within });
        }
        self.counted.push_back(now);
        Ok(())
    }
}

/// Returns a random duration between zero and this one.
fn random_part_of(duration: Duration) -> Duration {
    const PARTS: u32 = 1 << 16;
    let random = RandomState::new().build_hasher().finish() as u32;
    duration / PARTS * (random % PARTS)
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
        restart.track().expect("failures restart")
    }

    #[test]
    fn default_policy_restarts_nothing() {
        assert_eq!(RestartPolicy::default(), RestartPolicy::never());
        assert!(RestartPolicy::never().limit(7, SECOND).backoff(SECOND..=SECOND).track().is_none());
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
        let mut restarts = restart.track().expect("failures restart");
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
        let mut restarts = RestartPolicy::on_failure().limit(0, SECOND).track().expect("it counts");

        assert_eq!(restarts.next(ran(BRIEFLY)), Err(LimitReached { times: 0, within: SECOND }));
    }

    const CALLED: Progress = Progress { called: 1, answered: 0 };
    const ANSWERED: Progress = Progress { called: 1, answered: 1 };

    #[tokio::test(start_paused = true)]
    async fn batch_counts_only_processes_that_fail_before_a_call() {
        let mut restarts = RestartPolicy::for_batch().track().expect("failures restart");
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
        let mut restarts = RestartPolicy::for_batch().track().expect("failures restart");
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
            let mut restarts = Restarts { policy, counted: VecDeque::new(), consecutive: failures };

            let wait = restarts.next(ran(BRIEFLY)).expect("it is the first one");

            prop_assert!((first..=most.max(first)).contains(&wait), "{wait:?}");
        }
    }
}
