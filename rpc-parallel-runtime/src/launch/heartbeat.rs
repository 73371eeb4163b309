//! Heartbeat monitoring of another process.
//!
//! A timeout counts only the time in which this process itself runs. After this process was
//! stopped, or its host suspended, missing heartbeats of that time do not count.

use std::time::{Duration, Instant};

/// The maximum delay of a poll, if half of the planned interval is shorter. After a longer delay
/// this process was probably stopped.
const MAX_DELAY: Duration = Duration::from_millis(100);

/// A monitor of the heartbeats of another process. It has no clock: the caller passes the time.
#[derive(Clone, Debug)]
pub(super) struct HeartbeatMonitor {
    /// Whether this process pings, rather than the other one.
    is_active: bool,
    interval: Duration,
    limit: Duration,
    /// The time without an expected heartbeat. `None` while none is expected.
    silent_for: Option<Duration>,
    polled: Instant,
    next: Instant,
}

/// The action that the caller of [`HeartbeatMonitor::poll`] must take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeartbeatAction {
    /// Send a ping.
    Ping,
    Wait,
    /// The other process has missed heartbeats for this time, and is considered dead.
    Dead(Duration),
}

impl HeartbeatMonitor {
    /// Returns a monitor that pings the other process at this interval. The limit counts from the
    /// first unanswered ping.
    pub(super) fn active(interval: Duration, limit: Duration, now: Instant) -> Self {
        let next = now + interval;
        Self { is_active: true, interval, limit, silent_for: None, polled: now, next }
    }

    /// Returns a monitor that expects pings of the other process at this interval. The limit counts
    /// from the first ping that is due and missing.
    pub(super) fn passive(interval: Duration, limit: Duration, now: Instant) -> Self {
        let limit = limit.saturating_add(interval);
        // Polls are later than expected pings, so that a process that gets them is never polled.
        let interval = interval + interval / 2;
        let (silent_for, next) = (Some(Duration::ZERO), now + interval.min(limit));
        Self { is_active: false, interval, limit, silent_for, polled: now, next }
    }

    /// Records a message of the other process.
    pub(super) fn record_activity(&mut self, now: Instant) {
        self.silent_for = (!self.is_active).then_some(Duration::ZERO);
        if !self.is_active {
            (self.polled, self.next) = (now, now + self.interval.min(self.limit));
        }
    }

    /// Records that the ping could not be sent. The next poll, after the time `again`, retries it.
    pub(super) fn ping_failed(&mut self, now: Instant, again: Duration) {
        self.silent_for = None;
        self.next = now + again;
    }

    /// Returns when the next poll is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns the action that is due now. The caller polls when [`next`](Self::next) has passed.
    pub(super) fn poll(&mut self, now: Instant) -> HeartbeatAction {
        let planned = self.next - self.polled;
        let delay = now.saturating_duration_since(self.next);
        self.polled = now;
        let Some(silent_for) = self.silent_for else {
            self.silent_for = Some(Duration::ZERO);
            self.next = now + self.interval.min(self.limit);
            return HeartbeatAction::Ping;
        };
        if delay > MAX_DELAY.max(planned / 2) {
            self.next = now + planned;
            return HeartbeatAction::Wait;
        }
        let silent_for = silent_for + planned + delay;
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

    /// Polls whenever a poll is due, for this time, and returns the actions with their times in
    /// seconds.
    fn poll_when_due(
        heartbeat: &mut HeartbeatMonitor,
        start: Instant,
        time: Duration,
    ) -> Vec<(u64, HeartbeatAction)> {
        let mut actions = Vec::new();
        while heartbeat.next() <= start + time {
            let now = heartbeat.next();
            actions.push(((now - start).as_secs(), heartbeat.poll(now)));
            if let Some((_, HeartbeatAction::Dead(_))) = actions.last() {
                break;
            }
        }
        actions
    }

    #[test]
    fn failed_ping_is_retried_and_not_counted_as_missed() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);

        for attempt in 0..100 {
            let now = heartbeat.next();
            assert_eq!(now, start + 10 * SECOND + attempt * SECOND);
            assert_eq!(heartbeat.poll(now), HeartbeatAction::Ping);
            heartbeat.ping_failed(now, SECOND);
        }

        let actions = poll_when_due(&mut heartbeat, start, 200 * SECOND);
        assert_eq!(actions.first(), Some(&(110, HeartbeatAction::Ping)));
        assert_eq!(actions.last(), Some(&(135, HeartbeatAction::Dead(25 * SECOND))));
    }

    #[test]
    fn peer_not_answering_is_dead_after_limit_since_first_ping() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);

        let actions = poll_when_due(&mut heartbeat, start, 60 * SECOND);

        let dead = HeartbeatAction::Dead(25 * SECOND);
        assert_eq!(
            actions,
            [
                (10, HeartbeatAction::Ping),
                (20, HeartbeatAction::Wait),
                (30, HeartbeatAction::Wait),
                (35, dead)
            ]
        );
    }

    #[test]
    fn answering_peer_is_pinged_at_each_interval() {
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
    fn peer_not_pinging_is_dead_after_limit_since_due_ping() {
        let start = Instant::now();
        let mut heartbeat = HeartbeatMonitor::passive(10 * SECOND, 25 * SECOND, start);
        heartbeat.record_activity(start + 3 * SECOND);

        let actions = poll_when_due(&mut heartbeat, start, 60 * SECOND);

        let dead = HeartbeatAction::Dead(35 * SECOND);
        assert_eq!(actions, [(18, HeartbeatAction::Wait), (33, HeartbeatAction::Wait), (38, dead)]);
    }

    #[test]
    fn time_while_this_process_was_stopped_does_not_count() {
        let start = Instant::now();
        let mut active = HeartbeatMonitor::active(10 * SECOND, 25 * SECOND, start);
        let mut passive = HeartbeatMonitor::passive(10 * SECOND, 25 * SECOND, start);
        active.poll(start + 10 * SECOND);

        let woken = start + 1000 * SECOND;

        assert_eq!(active.poll(woken), HeartbeatAction::Wait);
        assert_eq!(passive.poll(woken), HeartbeatAction::Wait);
        assert!(active.next() > woken && passive.next() > woken);
    }
}
