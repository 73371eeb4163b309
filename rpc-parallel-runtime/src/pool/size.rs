//! The number of workers of a pool, and the launcher of each.

use std::num::NonZero;
use std::thread;

use super::error::{PoolError, PoolErrorKind};
use crate::launch::SharedLauncher;

/// The largest number of workers of a pool.
pub(super) const MAX_WORKERS: usize = 65_536;

/// The groups of workers that a pool starts with.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// The number of workers without a launcher, if it was set.
    pub(super) local: Option<usize>,
    /// What starts these workers instead of an exec.
    pub(super) local_launcher: Option<SharedLauncher>,
    pub(super) launched: Vec<(SharedLauncher, usize)>,
}

impl Groups {
    /// Returns the number of workers.
    ///
    /// # Errors
    ///
    /// It is zero or too large.
    pub(super) fn workers(&self) -> Result<usize, PoolError> {
        let launched = self.launched.iter().map(|(_, workers)| *workers);
        check(launched.fold(self.local(), usize::saturating_add))
    }

    /// Sets the number of workers if neither a number nor a launcher was set.
    pub(super) fn set_default(&mut self, workers: usize) {
        if self.launched.is_empty() {
            self.local.get_or_insert(workers);
        }
    }

    /// Returns the launcher of a worker. Workers beyond the groups belong to the last group.
    pub(super) fn launcher(&self, index: usize) -> Option<&SharedLauncher> {
        let mut end = self.local();
        if index < end {
            return self.local_launcher.as_ref();
        }
        for (launcher, workers) in &self.launched {
            end = end.saturating_add(*workers);
            if index < end {
                return Some(launcher);
            }
        }
        self.launched.last().map(|(launcher, _)| launcher)
    }

    /// Returns the number of workers without a launcher. Default: the number of cores that this
    /// process may use, or none if there are launchers.
    fn local(&self) -> usize {
        match (self.local, &self.launched[..]) {
            (Some(local), _) => local,
            (None, []) => thread::available_parallelism().map_or(1, NonZero::get),
            (None, _) => 0,
        }
    }
}

/// Checks the number of workers of a pool.
pub(super) fn check(workers: usize) -> Result<usize, PoolError> {
    match workers {
        0 => Err(PoolErrorKind::ZeroWorkers.into()),
        1..=MAX_WORKERS => Ok(workers),
        _ => Err(PoolErrorKind::TooManyWorkers { workers, max: MAX_WORKERS }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::launch::WrapperLauncher;

    fn launcher() -> SharedLauncher {
        SharedLauncher(Arc::new(WrapperLauncher::new("env")))
    }

    #[test]
    fn pool_without_groups_has_one_worker_per_core() {
        let cores = thread::available_parallelism().expect("the number of cores is known").get();

        assert!(Groups::default().workers().is_ok_and(|it| it == cores));
        assert!(Groups::default().launcher(cores).is_none());
    }

    #[test]
    fn launchers_alone_start_no_local_workers() {
        let groups =
            Groups { launched: vec![(launcher(), 2), (launcher(), 3)], ..Groups::default() };

        assert!(groups.workers().is_ok_and(|it| it == 5));
        assert!((0..7).all(|it| groups.launcher(it).is_some()));
    }

    #[test]
    fn local_workers_have_the_first_indices() {
        let groups =
            Groups { local: Some(2), launched: vec![(launcher(), 1)], ..Groups::default() };

        assert!(groups.workers().is_ok_and(|it| it == 3));
        assert_eq!(
            [0, 1, 2, 3].map(|it| groups.launcher(it).is_some()),
            [false, false, true, true]
        );
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        for (workers, expected) in [(0, "zero workers"), (usize::MAX, "at most 65536 workers")] {
            let groups = Groups { local: Some(workers), ..Groups::default() };

            let error = groups.workers().expect_err("the number is out of range");

            assert!(error.to_string().contains(expected), "{error}");
        }
        let groups = Groups {
            local: Some(usize::MAX),
            launched: vec![(launcher(), usize::MAX)],
            ..Groups::default()
        };
        assert!(groups.workers().is_err());
    }
}
