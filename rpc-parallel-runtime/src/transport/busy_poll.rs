//! Decides whether a reader that finds nothing looks again or sleeps.
//!
//! Waking a sleeping core takes 30 to 70 µs on a virtual machine, much longer than an answer that
//! another core computes. A reader that looks again for a short time receives the answer without
//! that. Nothing here reads a clock or a socket: the reader passes the times in.
//!
//! The reader is the task of a connection on a runtime with one thread, or a thread that waits for an
//! answer while a runtime with several threads drives the connection.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::thread::sched_getaffinity;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::wire::BusyPoll;

/// The budget of all readers of this process.
static GRANT: Mutex<Grant> = Mutex::new(Grant::new());

/// The longest time that one read polls with [`BusyPoll::Auto`]. It must exceed the time of a
/// wake-up. Otherwise each end finds the other one asleep, and polling never begins to pay.
const AUTO_WINDOW: Duration = Duration::from_micros(100);

/// The budget that a find earns, in nanoseconds: a part of the wake-up that it saves.
const EARNED: i64 = 10_000;

/// The longest time between two looks after which a find certainly saved a wake-up. After a longer
/// time another process may have had the core, possibly the peer itself.
///
/// On some virtual machines a look takes more than 1.5 µs. The turn of a peer on the same core takes
/// 5 µs or more.
const UNDISTURBED: Duration = Duration::from_micros(4);

/// The time between two looks after which another process certainly had the core, or other tasks
/// keep the thread busy. Polling on is of no use then.
const DISTURBED: Duration = Duration::from_micros(20);

/// The most that one such time costs. On a busy machine the kernel preempts a process that polls
/// for milliseconds, while it would run a process that slept at once.
const MAX_DISTURBANCE: Duration = Duration::from_millis(2);

/// The most that a reader can have earned, in nanoseconds: enough for two of these disturbances, so
/// that a rare one does not end polling that pays.
const MAX_EARNED: i64 = 4_000_000;

/// The number of bytes from which on a read belongs to a transfer of many bytes. A reader that sleeps
/// receives more of them at once, so a transfer is faster without polling.
const LARGE_READ: usize = 4 * 1024;

/// The part of all time that a process may poll in vain: one of two hundred. Two ends that share a
/// core lose twice as much.
const SHARE: i64 = 200;

/// The number of finds for which a reader sleeps without reading the clock, after it could not afford
/// to poll.
const SKIPPED: u32 = 31;

/// The cores and threads on which the reader runs.
#[derive(Clone, Copy)]
struct Placement {
    /// Whether another thread would poll beside the reader, or sleeps and waits for the same bytes.
    is_shared: bool,
    /// Whether this thread may run on one core only. If the peer runs on that core too, it waits
    /// while this reader polls.
    is_confined: bool,
}

/// Decides for one reader.
pub(crate) struct BusyPolling {
    window: Duration,
    /// What polling may cost. `None` for a window that the program has set, which is always used.
    budget: Option<Budget>,
    state: State,
}

enum State {
    /// The last read has found bytes, possibly so many that polling does not pay.
    Found {
        is_large: bool,
    },
    Polling {
        since: Instant,
        last_look: Instant,
    },
    /// The reader waits for an event of the socket.
    Asleep,
}

impl BusyPolling {
    /// Decides for a task of the current runtime. It never polls on a runtime with several threads,
    /// on which a thread without work sleeps, and another one would poll beside it.
    pub(super) fn of_task(setting: BusyPoll) -> Self {
        let is_shared = runtime_flavor() != Some(RuntimeFlavor::CurrentThread);
        Self::new(setting, Placement { is_shared, is_confined: is_confined() }, &GRANT)
    }

    /// Decides for a thread that waits for an answer. It never polls if the connection is on a
    /// runtime with one thread, which polls itself.
    #[cfg(feature = "pool")]
    pub(crate) fn of_waiting_thread(setting: BusyPoll) -> Self {
        let is_shared = runtime_flavor() == Some(RuntimeFlavor::CurrentThread);
        Self::new(setting, Placement { is_shared, is_confined: is_confined() }, &GRANT)
    }

    /// `grant` is the budget that all readers of the process share.
    fn new(setting: BusyPoll, placement: Placement, grant: &'static Mutex<Grant>) -> Self {
        let (window, budget) = match setting {
            _ if placement.is_shared => (Duration::ZERO, None),
            BusyPoll::Never => (Duration::ZERO, None),
            BusyPoll::Auto if placement.is_confined => (Duration::ZERO, None),
            BusyPoll::Auto => {
                (AUTO_WINDOW, Some(Budget { own: 0, resumes: None, skips: 0, grant }))
            }
            BusyPoll::For(window) => (window, None),
        };
        Self { window, budget, state: State::Found { is_large: false } }
    }

    /// Returns whether the reader looks for bytes without waiting for an event.
    pub(super) fn is_polling(&self) -> bool {
        matches!(self.state, State::Polling { .. })
    }

    /// Notes that a read has found this many bytes. `now` is called only if the time matters.
    pub(crate) fn found(&mut self, len: usize, now: impl FnOnce() -> Instant) {
        if let (State::Polling { last_look, .. }, Some(budget)) = (&self.state, &mut self.budget) {
            let now = now();
            let gap = now.saturating_duration_since(*last_look);
            if gap < UNDISTURBED {
                budget.earn(EARNED);
            } else {
                budget.pay(gap.min(MAX_DISTURBANCE), now);
            }
        }
        self.state = State::Found { is_large: len >= LARGE_READ };
    }

    /// Returns whether the reader looks again soon, after a read has found nothing. Otherwise it
    /// waits for an event. `now` is called only if the time matters.
    pub(crate) fn looks_again(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.window.is_zero() {
            return false;
        }
        match &mut self.state {
            State::Asleep => false,
            State::Found { is_large: true } if self.budget.is_some() => {
                self.state = State::Asleep;
                false
            }
            State::Found { .. } => {
                if self.budget.as_mut().is_some_and(Budget::skips) {
                    self.state = State::Asleep;
                    return false;
                }
                let now = now();
                let begins = match &mut self.budget {
                    Some(budget) => budget.affords(self.window, now),
                    None => true,
                };
                self.state = match begins {
                    true => State::Polling { since: now, last_look: now },
                    false => State::Asleep,
                };
                begins
            }
            State::Polling { since, last_look } => {
                let now = now();
                let gap = now.saturating_duration_since(*last_look);
                let is_disturbed = self.budget.is_some() && gap > DISTURBED;
                let is_over = now.saturating_duration_since(*since) >= self.window;
                if !is_over && !is_disturbed {
                    *last_look = now;
                    return true;
                }
                if let Some(budget) = &mut self.budget {
                    let polled = last_look.saturating_duration_since(*since);
                    // Before the first look the tasks of this thread run that were ready.
                    let disturbance = if polled.is_zero() { polled } else { gap };
                    budget.pay(polled + disturbance.min(MAX_DISTURBANCE), now);
                }
                self.state = State::Asleep;
                false
            }
        }
    }
}

/// The time that one reader may poll in vain, in nanoseconds.
struct Budget {
    own: i64,
    /// The reader does not poll before this time, because it has lost more than it had earned.
    resumes: Option<Instant>,
    /// The number of finds for which the reader still sleeps: see [`SKIPPED`].
    skips: u32,
    grant: &'static Mutex<Grant>,
}

impl Budget {
    fn skips(&mut self) -> bool {
        let skips = self.skips > 0;
        self.skips = self.skips.saturating_sub(1);
        skips
    }

    /// Returns whether a whole window may be spent in vain.
    fn affords(&mut self, window: Duration, now: Instant) -> bool {
        let affords = self.has_or_draws(window, now);
        if !affords {
            self.skips = SKIPPED;
        }
        affords
    }

    /// Returns whether this budget has a whole window, after it took what was missing from the
    /// grant.
    fn has_or_draws(&mut self, window: Duration, now: Instant) -> bool {
        let missing = nanos(window) - self.own;
        if missing <= 0 {
            return true;
        }
        if self.resumes.is_some_and(|it| now < it) {
            return false;
        }
        let granted = self.grant.lock().expect("no thread panics with the lock").draw(missing, now);
        if granted {
            self.own += missing;
        }
        granted
    }

    fn earn(&mut self, earned: i64) {
        self.own = (self.own + earned).min(MAX_EARNED);
    }

    fn pay(&mut self, time: Duration, now: Instant) {
        self.own -= nanos(time);
        if let Ok(debt) = u64::try_from(-self.own) {
            self.own = 0;
            self.resumes = Some(now + Duration::from_nanos(debt) * SHARE as u32);
        }
    }
}

/// The time that all readers of a process together may poll in vain. It grows with time.
///
/// It begins empty: a new process would spend it on its first calls, just when many processes start
/// that need the cores.
struct Grant {
    left: i64,
    counted: Option<Instant>,
}

impl Grant {
    /// The largest grant, in nanoseconds.
    const MAX: i64 = 2 * AUTO_WINDOW.as_nanos() as i64;

    const fn new() -> Self {
        Self { left: 0, counted: None }
    }

    /// Takes nanoseconds from the grant if it has as many.
    fn draw(&mut self, wanted: i64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.counted.unwrap_or(now));
        self.counted = Some(now);
        self.left = (self.left + nanos(elapsed) / SHARE).min(Self::MAX);
        let granted = wanted <= self.left;
        if granted {
            self.left -= wanted;
        }
        granted
    }
}

/// Returns the flavor of the runtime of this thread, if it has one.
fn runtime_flavor() -> Option<RuntimeFlavor> {
    Handle::try_current().ok().map(|it| it.runtime_flavor())
}

/// Returns whether this thread may run on one core only.
fn is_confined() -> bool {
    sched_getaffinity(None).is_ok_and(|it| it.count() == 1)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Placement = Placement { is_shared: false, is_confined: false };

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A reader with a clock that the test sets.
    struct Reader {
        polling: BusyPolling,
        now: Instant,
    }

    /// The budget of a process that has run for a while.
    fn full_grant() -> &'static Mutex<Grant> {
        Box::leak(Box::new(Mutex::new(Grant { left: Grant::MAX, counted: None })))
    }

    impl Reader {
        fn new(setting: BusyPoll, placement: Placement) -> Self {
            let polling = BusyPolling::new(setting, placement, full_grant());
            Self { polling, now: Instant::now() }
        }

        fn auto() -> Self {
            Self::new(BusyPoll::Auto, FREE)
        }

        fn looks_again(&mut self, after: Duration) -> bool {
            self.now += after;
            self.polling.looks_again(|| self.now)
        }

        fn find(&mut self, after: Duration) {
            self.now += after;
            self.polling.found(26, || self.now);
        }

        /// Looks every microsecond until the reader sleeps, and returns the time until then.
        fn poll_in_vain(&mut self) -> Duration {
            let began = self.now;
            let mut after = Duration::ZERO;
            while self.looks_again(after) {
                after = MICROSECOND;
            }
            self.now - began
        }

        /// Receives a message while the reader polls, after this time.
        fn receive_polling(&mut self, after: Duration) -> bool {
            let began = self.looks_again(Duration::ZERO);
            let mut left = after;
            while left > MICROSECOND && self.looks_again(MICROSECOND) {
                left -= MICROSECOND;
            }
            let polled = self.polling.is_polling();
            self.find(left);
            began && polled
        }
    }

    #[test]
    fn reader_polls_for_one_window_and_sleeps_until_find() {
        let mut reader = Reader::auto();

        assert_eq!(reader.poll_in_vain(), AUTO_WINDOW);
        assert!(!reader.looks_again(Duration::from_secs(10)), "it waits for an event");
        reader.find(MICROSECOND);
        assert!(reader.looks_again(MICROSECOND));
    }

    #[test]
    fn new_process_polls_after_it_has_run_for_a_while() {
        let grant = Box::leak(Box::new(Mutex::new(Grant::new())));
        let mut reader =
            Reader { polling: BusyPolling::new(BusyPoll::Auto, FREE, grant), now: Instant::now() };
        let began = reader.now;

        let mut finds = 0..10_000;
        let polls = finds.any(|_| {
            reader.find(10 * MICROSECOND);
            reader.looks_again(10 * MICROSECOND)
        });

        let ran_for = reader.now - began;
        assert!(polls);
        assert!((Duration::from_millis(20)..Duration::from_millis(25)).contains(&ran_for));
    }

    #[test]
    fn reader_that_finds_soon_polls_always() {
        let mut reader = Reader::auto();

        for _ in 0..10_000 {
            assert!(reader.receive_polling(5 * MICROSECOND));
        }
    }

    #[test]
    fn polling_in_vain_takes_half_percent_of_time() {
        let mut reader = Reader::auto();
        let began = reader.now;

        let mut polled = Duration::ZERO;
        for _ in 0..100_000 {
            polled += reader.poll_in_vain();
            reader.find(150 * MICROSECOND);
        }

        let share = polled.as_secs_f64() / (reader.now - began).as_secs_f64();
        assert!((0.0045..0.0055).contains(&share), "{share}");
    }

    #[test]
    fn finds_after_preemption_take_half_percent_of_time() {
        let mut reader = Reader::auto();
        let began = reader.now;

        let mut polled = Duration::ZERO;
        for _ in 0..100_000 {
            // The peer runs on the same core, for 8 µs between two looks.
            if reader.looks_again(Duration::ZERO) {
                polled += 8 * MICROSECOND;
            }
            reader.find(8 * MICROSECOND);
        }

        let share = polled.as_secs_f64() / (reader.now - began).as_secs_f64();
        assert!((0.0045..0.0055).contains(&share), "{share}");
    }

    #[test]
    fn readers_of_process_share_grant() {
        let grant = full_grant();
        let now = Instant::now();
        let mut readers: Vec<_> = std::iter::repeat_with(|| Reader {
            polling: BusyPolling::new(BusyPoll::Auto, FREE, grant),
            now,
        })
        .take(100)
        .collect();

        let polled: Duration = readers.iter_mut().map(Reader::poll_in_vain).sum();

        assert_eq!(polled, 2 * AUTO_WINDOW, "the grant is used up");
    }

    #[test]
    fn reader_that_earned_depends_on_no_other_reader() {
        let grant = full_grant();
        let polling = || BusyPolling::new(BusyPoll::Auto, FREE, grant);
        let now = Instant::now();
        let mut busy = Reader { polling: polling(), now };
        assert!(busy.receive_polling(MICROSECOND));

        for _ in 0..100 {
            Reader { polling: polling(), now }.poll_in_vain();
        }

        assert!(busy.receive_polling(MICROSECOND));
    }

    #[test]
    fn reader_sleeps_after_large_read() {
        let mut reader = Reader::auto();
        reader.polling.found(LARGE_READ, || reader.now);

        assert!(!reader.looks_again(Duration::ZERO));
        reader.find(MICROSECOND);
        assert!(reader.looks_again(Duration::ZERO));
    }

    #[test]
    fn long_gap_between_looks_ends_window() {
        let mut reader = Reader::auto();

        assert!(reader.looks_again(Duration::ZERO));
        assert!(reader.looks_again(20 * MICROSECOND));
        assert!(!reader.looks_again(21 * MICROSECOND));
    }

    #[test]
    fn tasks_that_were_ready_cost_no_budget() {
        let mut reader = Reader::auto();

        for _ in 0..100 {
            assert!(reader.looks_again(MICROSECOND));
            assert!(!reader.looks_again(AUTO_WINDOW), "a task ran as long");
            reader.find(MICROSECOND);
        }
    }

    /// Lets another process have the core for 2 ms while the reader polls.
    fn preempt(reader: &mut Reader) {
        assert!(reader.looks_again(Duration::ZERO));
        assert!(reader.looks_again(MICROSECOND));
        assert!(!reader.looks_again(MAX_DISTURBANCE));
        reader.find(MICROSECOND);
    }

    #[test]
    fn rare_preemption_does_not_end_polling_that_pays() {
        let mut reader = Reader::auto();

        for _ in 0..100 {
            for _ in 0..250 {
                assert!(reader.receive_polling(5 * MICROSECOND));
            }
            preempt(&mut reader);
        }
    }

    #[test]
    fn frequent_preemption_takes_one_percent_of_time() {
        let mut reader = Reader::auto();
        let began = reader.now;

        let mut preempted = Duration::ZERO;
        while reader.now - began < Duration::from_secs(100) {
            if reader.receive_polling(5 * MICROSECOND) && reader.looks_again(Duration::ZERO) {
                assert!(reader.looks_again(MICROSECOND));
                assert!(!reader.looks_again(MAX_DISTURBANCE));
                preempted += MAX_DISTURBANCE;
            }
            reader.find(MICROSECOND);
        }

        let share = preempted.as_secs_f64() / (reader.now - began).as_secs_f64();
        assert!(share < 0.01, "{share}");
    }

    #[test]
    fn set_window_is_used_each_time() {
        let window = Duration::from_millis(1);
        let confined = Placement { is_confined: true, ..FREE };
        let mut reader = Reader::new(BusyPoll::For(window), confined);

        for _ in 0..1000 {
            assert_eq!(reader.poll_in_vain(), window);
            reader.find(MICROSECOND);
        }
        assert!(reader.looks_again(Duration::ZERO));
        assert!(reader.looks_again(100 * MICROSECOND), "other tasks ran");
    }

    #[test]
    fn reader_does_not_poll_where_it_cannot_pay() {
        let confined = Placement { is_confined: true, ..FREE };
        let threads = Placement { is_shared: true, ..FREE };
        let cases = [
            (BusyPoll::Never, FREE),
            (BusyPoll::Auto, confined),
            (BusyPoll::Auto, threads),
            (BusyPoll::For(AUTO_WINDOW), threads),
        ];

        for (setting, placement) in cases {
            let mut reader = Reader::new(setting, placement);
            assert_eq!(reader.poll_in_vain(), Duration::ZERO, "{setting}");
        }
    }
}
