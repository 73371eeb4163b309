//! The tokio runtimes of workers and of `#[entry]`.

use std::io;
use std::pin::Pin;

use tokio::runtime::{Builder, Runtime};

use crate::wire::fields;

/// The kind of a tokio runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RuntimeFlavor {
    /// All tasks run on one thread. This is the default, and the fastest where many processes share
    /// the cores.
    #[default]
    CurrentThread,
    /// Tasks run on several threads.
    MultiThread {
        /// The number of threads. Default: the number of cores.
        threads: Option<usize>,
    },
}

fields!(enum RuntimeFlavor { 0 => CurrentThread, 1 => MultiThread { threads } });

impl RuntimeFlavor {
    pub(crate) fn build(self) -> io::Result<Runtime> {
        self.builder().build()
    }

    /// Builds a runtime each of whose threads begins with this function, except for the thread that
    /// calls `block_on`.
    pub(super) fn build_with(
        self,
        begin_thread: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Runtime> {
        self.builder().on_thread_start(begin_thread).build()
    }

    fn builder(self) -> Builder {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread { threads } => {
                let mut builder = Builder::new_multi_thread();
                if let Some(threads) = threads {
                    builder.worker_threads(threads);
                }
                builder
            }
        };
        builder.enable_all();
        builder
    }
}

/// Runs a future to completion.
///
/// It takes a trait object, so that `Runtime::block_on` is compiled once.
pub(crate) fn block_on(runtime: &Runtime, future: Pin<&mut dyn Future<Output = ()>>) {
    runtime.block_on(future);
}
