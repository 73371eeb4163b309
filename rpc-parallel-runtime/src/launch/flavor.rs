//! The tokio runtimes that we make.

use std::io;
use std::pin::Pin;

use tokio::runtime::{Builder, Runtime};

use crate::wire::fields;

/// The kind of a tokio runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RuntimeFlavor {
    /// Everything runs on one thread: the fastest for a process among many.
    #[default]
    CurrentThread,
    /// Tasks run on several threads.
    MultiThread {
        /// How many; as many as there are cores, if not said.
        threads: Option<usize>,
    },
}

fields!(enum RuntimeFlavor { 0 => CurrentThread, 1 => MultiThread { threads } });

impl RuntimeFlavor {
    pub(crate) fn build(self) -> io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build(),
            Self::MultiThread { threads } => {
                let mut builder = Builder::new_multi_thread();
                if let Some(threads) = threads {
                    builder.worker_threads(threads);
                }
                builder.enable_all().build()
            }
        }
    }
}

/// Runs a future to its end. It takes a trait object, so that `Runtime::block_on` is compiled once.
pub(crate) fn block_on(runtime: &Runtime, future: Pin<&mut dyn Future<Output = ()>>) {
    runtime.block_on(future);
}
