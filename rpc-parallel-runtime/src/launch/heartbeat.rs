//! Whether a process that should be there still is, by what is heard of it.
//!
//! Time counts only while this process itself runs: one that was stopped, or whose machine was
//! suspended, has heard nothing of anybody, and blames nobody for it.

use std::time::{Duration, Instant};

/// How late this process may wake up before it must think that it was stopped.
const LATE: Duration = Duration::from_millis(100);

/// The silence of another process.
#[derive(Clone, Debug)]
pub(super) struct HeartbeatMonitor {
    asks: bool,
    interval: Duration,
    limit: Duration,
    /// For how long nothing was heard that should have been; none if nothing should.
    silent_for: Option<Duration>,
    polled: Instant,
    next: Instant,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeartbeatAction {
    /// Ask the other process for a sign of life.
    Ping,
    Wait,
    /// It is lost; nothing was heard for so long.
    Dead(Duration),
}

impl HeartbeatMonitor {
    /// Begins to listen to a process that answers when it is asked, every so often: the time
    /// begins with a question that is not answered.
    pub(super) fn active(interval: Duration, limit: Duration, now: Instant) -> Self {
        Self { asks: true, interval, limit, silent_for: None, polled: now, next: now + interval }
    }

    /// Begins to listen to a process that asks every so often.
    pub(super) fn passive(interval: Duration, limit: Duration, now: Instant) -> Self {
        let limit = limit.saturating_add(interval);
        // The next question comes before, so that there is nothing to look at.
        let interval = interval + interval / 2;
        let (silent_for, next) = (Some(Duration::ZERO), now + interval.min(limit));
        Self { asks: false, interval, limit, silent_for, polled: now, next }
    }

    /// Takes note that something was heard.
    pub(super) fn record_activity(&mut self, now: Instant) {
        self.silent_for = (!self.asks).then_some(Duration::ZERO);
        if !self.asks {
            (self.polled, self.next) = (now, now + self.interval.min(self.limit));
        }
    }

    /// Takes note that the question could not be sent, and is to be sent after this time.
    pub(super) fn ping_failed(&mut self, now: Instant, again: Duration) {
        self.silent_for = None;
        self.next = now + again;
    }

    /// Returns when to look again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks what is to be done, when it is time.
    pub(super) fn poll(&mut self, now: Instant) -> HeartbeatAction {
        let planned = self.next - self.polled;
        let late = now.saturating_duration_since(self.next);
        self.polled = now;
        let Some(silent_for) = self.silent_for else {
            self.silent_for = Some(Duration::ZERO);
            self.next = now + self.interval.min(self.limit);
            return HeartbeatAction::Ping;
        };
        if late > LATE.max(planned / 2) {
            self.next = now + planned;
            return HeartbeatAction::Wait;
        }
        let silent_for = silent_for + planned + late;
        if silent_for >= self.limit {
            return HeartbeatAction::Dead(silent_for);
        }
        self.silent_for = Some(silent_for);
        self.next = now + self.interval.min(self.limit - silent_for);
        HeartbeatAction::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks whenever it is time, for so long, and returns what was to be done and when.
    fn watch(
        heartbeat: &mut HeartbeatMonitor,
        start: Instant,
        time: Duration,
    ) -> Vec<(u64, HeartbeatAction)> {
        let mut seen = Vec::new();
        while heartbeat.next() <= start + time {
            let now = heartbeat.next();
            seen.push(((now - start).as_secs(), heartbeat.poll(now)));
            if let Some((_, HeartbeatAction::Dead(_))) = seen.last() {
                break;
            }
        }
        seen
    }

    #[test]
    fn process_that_could_not_be_asked_is_asked_again_and_not_lost() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);

        for attempt in 0..100 {
            let now = heartbeat.next();
            assert_eq!(now, start + 10 * SECOND + attempt * SECOND);
            assert_eq!(heartbeat.poll(now), HeartbeatAction::Ping);
            heartbeat.ping_failed(now, SECOND);
        }

        let seen = watch(&mut heartbeat, start, 200 * SECOND);
        assert_eq!(seen.first(), Some(&(110, HeartbeatAction::Ping)));
        assert_eq!(seen.last(), Some(&(135, HeartbeatAction::Dead(25 * SECOND))));
    }

    #[test]
    fn who_does_not_answer_is_lost_when_the_limit_has_passed_since_it_was_asked() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);

        let seen = watch(&mut heartbeat, start, 60 * SECOND);

        let lost = HeartbeatAction::Dead(25 * SECOND);
        assert_eq!(
            seen,
            [
                (10, HeartbeatAction::Ping),
                (20, HeartbeatAction::Wait),
                (30, HeartbeatAction::Wait),
                (35, lost)
            ]
        );
    }

    #[test]
    fn who_answers_is_asked_again_and_again() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);

        for round in 1..100 {
            let now = start + round * 10 * SECOND;
            assert_eq!(heartbeat.next(), now);
            assert_eq!(heartbeat.poll(now), HeartbeatAction::Ping);
            heartbeat.record_activity(now);
        }
    }

    #[test]
    fn who_does_not_ask_is_lost_when_the_limit_has_passed_since_it_should_have() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::passive(10 * SECOND, 25 * SECOND, start);
        heartbeat.record_activity(start + 3 * SECOND);

        let seen = watch(&mut heartbeat, start, 60 * SECOND);

        let lost = HeartbeatAction::Dead(35 * SECOND);
        assert_eq!(seen, [(18, HeartbeatAction::Wait), (33, HeartbeatAction::Wait), (38, lost)]);
    }

    #[test]
    fn the_time_in_which_this_process_did_not_run_does_not_count() {
        let start = Instant::now();
        let mut asked = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);
        let mut asking = HeartbeatMonitor::passive(10 * SECOND, 25 * SECOND, start);
        asked.poll(start + 10 * SECOND);

        let woken = start + 1000 * SECOND;

        assert_eq!(asked.poll(woken), HeartbeatAction::Wait);
        assert_eq!(asking.poll(woken), HeartbeatAction::Wait);
        assert!(asked.next() > woken && asking.next() > woken);
    }
}
