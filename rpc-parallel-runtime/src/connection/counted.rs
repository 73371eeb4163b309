//! The counts to which a pending received call belongs.

use std::sync::Arc;

use super::received_one_way::ReceivedOneWay;
use super::traffic::CountedCall;

/// The calls of one connection that have a task, and whose answers are not queued. They count
/// against `max_calls`; one-way calls do not.
#[derive(Default)]
pub(super) struct Unanswered(Arc<()>);

impl Unanswered {
    /// Adds a call, which also counts in the traffic.
    pub(super) fn add(&self, in_flight: CountedCall) -> Counted {
        let limit = Limit::Calls { _unanswered: self.0.clone() };
        Counted { _in_flight: in_flight, _limit: limit }
    }

    /// Returns the number of the calls.
    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// A counted call. It must be dropped before the answer of the call is queued, because the caller
/// may send its next call as soon as it has received the answer.
pub(super) struct Counted {
    _in_flight: CountedCall,
    _limit: Limit,
}

/// The limit of the connection against which a call counts.
enum Limit {
    Calls { _unanswered: Arc<()> },
    OneWayCalls { _received: Option<ReceivedOneWay> },
}

impl Counted {
    pub(super) fn one_way(in_flight: CountedCall, received: Option<ReceivedOneWay>) -> Self {
        Self { _in_flight: in_flight, _limit: Limit::OneWayCalls { _received: received } }
    }
}
