//! How far a map is.

use std::fmt;
use std::time::Duration;

use crate::pool::engine;

/// How far a map is.
///
/// `Display` writes one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Progress {
    /// The number of items of the source, if it is known.
    pub total: Option<u64>,
    /// The number of items with a result.
    pub done: u64,
    /// The number of items with an error.
    pub failed: u64,
    /// The number of items that were pulled from the source and have neither a result nor an error.
    pub in_flight: u64,
    /// How often an item was given to another worker because its worker had died.
    pub retried: u64,
    /// The number of workers that have died.
    pub deaths: u64,
    /// The time since the map began.
    pub elapsed: Duration,
    /// Whether the map has finished or was cancelled.
    pub is_finished: bool,
}

impl Progress {
    /// Returns the number of items with a result or an error per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { (self.done + self.failed) as f64 / seconds } else { 0.0 }
    }

    /// Returns the time that the remaining items will take at the present rate. Returns `None` if
    /// their number is not known.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done + self.failed);
        let rate = self.rate();
        if left == 0 {
            return Some(Duration::ZERO);
        }
        if rate > 0.0 { Duration::try_from_secs_f64(left as f64 / rate).ok() } else { None }
    }
}

impl From<engine::Progress> for Progress {
    fn from(progress: engine::Progress) -> Self {
        let in_flight = progress.in_flight();
        let engine::Progress { total, done, failed, retried, deaths, elapsed, .. } = progress;
        Self { total, done, failed, in_flight, retried, deaths, elapsed, is_finished: false }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.done + self.failed;
        match self.total {
            Some(total) => write!(f, "{answered} of {total} items")?,
            None => write!(f, "{answered} items")?,
        }
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.deaths > 0 {
            write!(f, ", {} workers died", self.deaths)?;
        }
        write!(f, ", {:.0}/s", self.rate())?;
        match self.time_left() {
            Some(left) if !self.is_finished => {
                write!(f, ", {:.0} s left", left.as_secs_f64().ceil())
            }
            _ => Ok(()),
        }
    }
}
