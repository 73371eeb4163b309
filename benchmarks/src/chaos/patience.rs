//! How long something is waited for: time counts only while this process runs, for it may be
//! stopped itself.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use tokio::time::sleep;

/// More than this between two looks is the time of a stop, or of a machine that is far too busy.
const MOST: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(2);

/// A wait that ends at some time.
pub(super) struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    pub(super) fn of(bound: Duration) -> Self {
        Self { left: bound, looked: Instant::now() }
    }

    /// Waits for a moment, and says whether there is time for another one.
    pub(super) async fn wait(&mut self) -> bool {
        sleep(POLL).await;
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.looked).min(MOST));
        self.looked = now;
        !self.left.is_zero()
    }
}

/// Waits for a future, but not for longer than this.
pub(super) async fn within<T>(
    bound: Duration,
    future: impl Future<Output = T>,
) -> Result<T, TooLong> {
    let over = async {
        let mut left = bound;
        while !left.is_zero() {
            let step = left.min(MOST);
            sleep(step).await;
            left -= step;
        }
    };
    match select(pin!(future), pin!(over)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(TooLong),
    }
}

/// Somebody has run out of patience.
#[derive(Debug)]
pub(super) struct TooLong;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_in_time_is_returned_and_what_does_not_is_not_waited_for() {
        assert_eq!(within(MOST, async { 7 }).await.ok(), Some(7));
        assert!(within(MOST, std::future::pending::<()>()).await.is_err());
    }

    #[tokio::test]
    async fn a_stop_of_this_process_uses_up_little_patience() {
        let mut patience = Patience::of(4 * MOST);

        std::thread::sleep(10 * MOST);

        assert!(patience.wait().await);
    }
}
