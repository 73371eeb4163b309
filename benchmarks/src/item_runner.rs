//! Contenders that run all items of a workload on two cores.

use std::time::Duration;

use crate::figure::Figure;
use crate::items::{Items, Workload};

/// The number of processes or threads that run items.
pub(crate) const WORKERS: usize = 2;
const WARM_UP: Workload = Workload::uniform(2_000, 1);

/// The processes or threads of a contender, which run items.
pub(crate) trait ItemRunner: Sized {
    /// How the items are passed and the results are read.
    type Mode: Copy + 'static;

    /// Starts [`WORKERS`] processes or threads.
    fn start(mode: Self::Mode) -> anyhow::Result<Self>;

    /// Runs all items and returns the elapsed time.
    ///
    /// # Errors
    ///
    /// Returns an error if a result is wrong.
    fn run(&mut self, items: Items) -> anyhow::Result<Duration>;

    /// Ends the processes or threads and waits for their exit.
    fn stop(self) -> anyhow::Result<()>;
}

impl Figure {
    /// Adds a contender whose value is the number of items per second, divided by `per`.
    pub(crate) fn item_runner<R: ItemRunner>(
        self,
        name: impl Into<String>,
        mode: R::Mode,
        workload: Workload,
        per: f64,
    ) -> Self {
        self.contender(name, move || {
            let mut runner = R::start(mode)?;
            runner.run(WARM_UP.items())?;
            let elapsed = runner.run(workload.items())?;
            runner.stop()?;
            Ok(workload.count as f64 / elapsed.as_secs_f64() / per)
        })
    }
}
