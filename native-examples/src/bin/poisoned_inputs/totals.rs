//! How many orders had each outcome.

use std::fmt;

use crate::orders::Outcome;

#[derive(Default)]
pub(crate) struct Totals {
    priced: u64,
    /// The sum of all prices.
    cents: u64,
    crashed: u64,
    aborted: u64,
    hung: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Price(cents) => {
                self.priced += 1;
                self.cents += cents;
            }
            Outcome::Crash => self.crashed += 1,
            Outcome::Abort => self.aborted += 1,
            Outcome::Hang => self.hung += 1,
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priced, cents, crashed, aborted, hung } = self;
        write!(f, "{priced} orders priced, {}.{:02} in all; ", cents / 100, cents % 100)?;
        write!(f, "{crashed} crashed the process, {aborted} aborted it, {hung} did not return")
    }
}
