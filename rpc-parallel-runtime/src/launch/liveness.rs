//! Whether a process that should be there still is, by what is heard of it.
//!
//! Time counts only while this process itself runs: one that was stopped, or whose machine was
//! suspended, has heard nothing of anybody, and blames nobody for it.

use std::time::{Duration, Instant};

/// How late this process may wake up before it must think that it was stopped.
const LATE: Duration = Duration::from_millis(100);

/// The silence of another process.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    asks: bool,
    interval: Duration,
    limit: Duration,
    /// For how long nothing was heard that should have been; none if nothing should.
    lasts: Option<Duration>,
    looked: Instant,
    next: Instant,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Ask the other process for a sign of life.
    Ask,
    Wait,
    /// It is lost; nothing was heard for so long.
    Lost(Duration),
}

impl Silence {
    /// Begins to listen to a process that answers when it is asked, every so often: the time
    /// begins with a question that is not answered.
    pub(super) fn of_asked(interval: Duration, limit: Duration, now: Instant) -> Self {
        Self { asks: true, interval, limit, lasts: None, looked: now, next: now + interval }
    }

    /// Begins to listen to a process that asks every so often.
    pub(super) fn of_asking(interval: Duration, limit: Duration, now: Instant) -> Self {
        let limit = limit.saturating_add(interval);
        // The next question comes before, so that there is nothing to look at.
        let interval = interval + interval / 2;
        let (lasts, next) = (Some(Duration::ZERO), now + interval.min(limit));
        Self { asks: false, interval, limit, lasts, looked: now, next }
    }

    /// Takes note that something was heard.
    pub(super) fn broken(&mut self, now: Instant) {
        self.lasts = (!self.asks).then_some(Duration::ZERO);
        if !self.asks {
            (self.looked, self.next) = (now, now + self.interval.min(self.limit));
        }
    }

    /// Takes note that the question could not be sent, and is to be sent after this time.
    pub(super) fn not_asked(&mut self, now: Instant, again: Duration) {
        self.lasts = None;
        self.next = now + again;
    }

    /// Returns when to look again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks what is to be done, when it is time.
    pub(super) fn look(&mut self, now: Instant) -> Verdict {
        let planned = self.next - self.looked;
        let late = now.saturating_duration_since(self.next);
        self.looked = now;
        let Some(lasts) = self.lasts else {
            self.lasts = Some(Duration::ZERO);
            self.next = now + self.interval.min(self.limit);
            return Verdict::Ask;
        };
        if late > LATE.max(planned / 2) {
            self.next = now + planned;
            return Verdict::Wait;
        }
        let lasts = lasts + planned + late;
        if lasts >= self.limit {
            return Verdict::Lost(lasts);
        }
        self.lasts = Some(lasts);
        self.next = now + self.interval.min(self.limit - lasts);
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks whenever it is time, for so long, and returns what was to be done and when.
    fn watch(silence: &mut Silence, start: Instant, time: Duration) -> Vec<(u64, Verdict)> {
        let mut seen = Vec::new();
        while silence.next() <= start + time {
            let now = silence.next();
            seen.push(((now - start).as_secs(), silence.look(now)));
            if let Some((_, Verdict::Lost(_))) = seen.last() {
                break;
            }
        }
        seen
    }

    #[test]
    fn process_that_could_not_be_asked_is_asked_again_and_not_lost() {
        let start = Instant::now();
        let mut silence = Silence::of_asked(10 * SECOND, 25 * SECOND, start);

        for attempt in 0..100 {
            let now = silence.next();
            assert_eq!(now, start + 10 * SECOND + attempt * SECOND);
            assert_eq!(silence.look(now), Verdict::Ask);
            silence.not_asked(now, SECOND);
        }

        let seen = watch(&mut silence, start, 200 * SECOND);
        assert_eq!(seen.first(), Some(&(110, Verdict::Ask)));
        assert_eq!(seen.last(), Some(&(135, Verdict::Lost(25 * SECOND))));
    }

    #[test]
    fn who_does_not_answer_is_lost_when_the_limit_has_passed_since_it_was_asked() {
        let start = Instant::now();
        let mut silence = Silence::of_asked(10 * SECOND, 25 * SECOND, start);

        let seen = watch(&mut silence, start, 60 * SECOND);

        let lost = Verdict::Lost(25 * SECOND);
        assert_eq!(
            seen,
            [(10, Verdict::Ask), (20, Verdict::Wait), (30, Verdict::Wait), (35, lost)]
        );
    }

    #[test]
    fn who_answers_is_asked_again_and_again() {
        let start = Instant::now();
        let mut silence = Silence::of_asked(10 * SECOND, 25 * SECOND, start);

        for round in 1..100 {
            let now = start + round * 10 * SECOND;
            assert_eq!(silence.next(), now);
            assert_eq!(silence.look(now), Verdict::Ask);
            silence.broken(now);
        }
    }

    #[test]
    fn who_does_not_ask_is_lost_when_the_limit_has_passed_since_it_should_have() {
        let start = Instant::now();
        let mut silence = Silence::of_asking(10 * SECOND, 25 * SECOND, start);
        silence.broken(start + 3 * SECOND);

        let seen = watch(&mut silence, start, 60 * SECOND);

        let lost = Verdict::Lost(35 * SECOND);
        assert_eq!(seen, [(18, Verdict::Wait), (33, Verdict::Wait), (38, lost)]);
    }

    #[test]
    fn the_time_in_which_this_process_did_not_run_does_not_count() {
        let start = Instant::now();
        let mut asked = Silence::of_asked(10 * SECOND, 25 * SECOND, start);
        let mut asking = Silence::of_asking(10 * SECOND, 25 * SECOND, start);
        asked.look(start + 10 * SECOND);

        let woken = start + 1000 * SECOND;

        assert_eq!(asked.look(woken), Verdict::Wait);
        assert_eq!(asking.look(woken), Verdict::Wait);
        assert!(asked.next() > woken && asking.next() > woken);
    }
}
