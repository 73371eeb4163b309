//! Credit that this end has granted to its peer.

use std::mem;

/// What the peer may send before this end has dealt with it: bytes or calls.
///
/// Credit is returned to the peer when half of the limit was used and dealt with, apart from what is
/// still in use. So what is never dealt with does not hold back the credit for the rest.
pub(super) struct Grant {
    limit: usize,
    /// The amount that was received, and for which no credit was returned.
    outstanding: usize,
    /// How much of it was dealt with.
    done: usize,
}

impl Grant {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, outstanding: 0, done: 0 }
    }

    /// Returns the amount that the peer may send before any of it was dealt with.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Records a received amount. Returns `false` if the peer had used all of its credit, and
    /// `overdraft` in addition.
    #[must_use]
    pub(super) fn receive(&mut self, amount: usize, overdraft: usize) -> bool {
        if self.outstanding >= self.limit.saturating_add(overdraft) {
            return false;
        }
        self.outstanding += amount;
        true
    }

    /// Records that a received amount was dealt with. Returns the credit for the peer, or 0.
    pub(super) fn complete(&mut self, amount: usize) -> usize {
        self.done += amount;
        let in_use = self.outstanding.saturating_sub(self.done);
        if self.done < self.limit.saturating_sub(in_use).div_ceil(2) {
            return 0;
        }
        let credit = mem::take(&mut self.done);
        self.outstanding -= credit;
        credit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_returned_when_half_of_what_is_not_in_use_is_done() {
        let mut grant = Grant::new(10);

        let credit = (0..10).map(|_| {
            assert!(grant.receive(1, 0));
            grant.complete(1)
        });

        assert_eq!(credit.collect::<Vec<_>>(), [0, 0, 0, 0, 5, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn credit_for_rest_is_returned_while_part_is_in_use() {
        let mut grant = Grant::new(10);
        assert!(grant.receive(8, 0));

        for _ in 0..100 {
            assert!(grant.receive(2, 0));
            assert_eq!(grant.complete(2), 2);
        }
    }

    #[test]
    fn peer_may_overdraw_once() {
        let mut grant = Grant::new(10);

        assert_eq!([9, 100, 1].map(|it| grant.receive(it, 0)), [true, true, false]);
        assert!(grant.receive(1, 100));
    }
}
