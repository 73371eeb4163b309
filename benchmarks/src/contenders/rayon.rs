//! Rayon: threads instead of processes.

use std::time::{Duration, Instant};

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::item_runner::{ItemRunner, WORKERS};
use crate::items::{self, Items};

pub(crate) struct RayonRunner {
    threads: ThreadPool,
}

impl ItemRunner for RayonRunner {
    type Mode = ();

    fn start((): ()) -> anyhow::Result<Self> {
        Ok(Self { threads: rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build()? })
    }

    fn run(&mut self, items: Items) -> anyhow::Result<Duration> {
        let indexes = 0..usize::try_from(items.count())?;
        let begin = Instant::now();
        let results: Vec<_> = self.threads.install(|| {
            indexes.into_par_iter().map(|it| items::run(items.item(it as u64))).collect()
        });
        let elapsed = begin.elapsed();
        items.check(&results)?;
        Ok(elapsed)
    }

    fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}
