//! Time limits of the checks, and the heartbeat settings that they depend on.

use std::time::Duration;

/// The time limit for a call or a pipe to end, after its worker has failed or its end was
/// requested.
pub(crate) const CALL_BOUND: Duration = Duration::from_secs(2);
/// The time limit for a process and its resources to disappear.
pub(crate) const EXIT_BOUND: Duration = Duration::from_secs(2);
/// The time limit for the start of a worker, including one that is stopped meanwhile.
pub(crate) const START_BOUND: Duration = Duration::from_secs(6);
/// A peer that misses heartbeats for this time is considered dead.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1500);
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// The time limit until a stopped process is considered dead and has been killed.
pub(crate) const HEARTBEAT_BOUND: Duration = Duration::from_secs(5);
/// The time limit for a whole round.
pub(crate) const ROUND_BOUND: Duration = Duration::from_secs(40);
