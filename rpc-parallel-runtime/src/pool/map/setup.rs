//! A map that has not begun: its function, source and options.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{DeathReason, MapEnd};
use super::monitor::Reporter;
use super::output::Output;
use super::pull::Pull;
use super::task::MapTask;
use crate::connection::task;
use crate::pool::engine::{Engine, EngineOptions};
use crate::pool::lease::Lease;
use crate::pool::{background, program};
use crate::wire::FunctionId;
use crate::worker::items::MapRequest;

/// The workers that a map runs on.
#[derive(Clone)]
pub(super) enum Target {
    Pool(Arc<Lease>),
    /// The pool of the program, which is started when it is first needed.
    Program,
}

/// Everything that a map needs.
pub(super) struct Setup {
    pub(super) target: Target,
    pub(super) function: FunctionId,
    /// The function that combines results in the workers, for a reduction.
    pub(super) combine: Option<FunctionId>,
    pub(super) source: Box<dyn Pull>,
    pub(super) is_ordered: bool,
    pub(super) options: MapOptions,
    pub(super) reporter: Reporter,
    /// The name of the function, if a progress bar is drawn.
    #[cfg(feature = "progress")]
    pub(super) bar: Option<&'static str>,
}

/// The options of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapOptions {
    pub(super) concurrency: u32,
    pub(super) attempts: u8,
    pub(super) timeout: Option<Duration>,
    pub(super) window: Option<usize>,
    pub(super) speculate: bool,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self { concurrency: 1, attempts: 3, timeout: None, window: None, speculate: false }
    }
}

/// The time between two reports of a worker whose item has no timeout.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// Returns the time between two reports of a worker whose items have this timeout. It is shorter, so
/// that a worker that is stopped is noticed in time.
fn report_period(timeout: Duration) -> Duration {
    (timeout / 4).clamp(Duration::from_millis(10), REPORT_PERIOD)
}

impl Setup {
    pub(super) fn new(
        target: Target,
        function: FunctionId,
        source: Box<dyn Pull>,
        is_ordered: bool,
    ) -> Self {
        Self {
            target,
            function,
            combine: None,
            source,
            is_ordered,
            options: MapOptions::default(),
            reporter: Reporter::default(),
            #[cfg(feature = "progress")]
            bar: None,
        }
    }

    /// Starts the task of the map on the background runtime.
    pub(super) fn start(self, output: Arc<Output>) {
        let runtime = match background::runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                let why = format!("failed to start a tokio runtime: {error}");
                return output.end(Err(MapEnd::Session { why }));
            }
        };
        #[cfg(feature = "progress")]
        if let Some(function) = self.bar {
            // Owner: the reporter. The task ends when the map has finished.
            runtime.spawn(task(super::bar::draw(self.reporter.monitor(), function)));
        }
        // Owner: `output`. The task ends with the results, or when the consumer drops them.
        runtime.spawn(task(self.run(EndGuard(output))));
    }

    async fn run(self, guard: EndGuard) {
        let Self { target, function, combine, source, is_ordered, options, reporter, .. } = self;
        let output = guard.0.clone();
        let lease = match target {
            Target::Pool(lease) => lease,
            Target::Program => match program::pool().await {
                Ok(pool) => pool.lease().clone(),
                Err(error) => return output.end(Err(MapEnd::Pool(error))),
            },
        };
        let mut engine_options = EngineOptions {
            ordered: is_ordered,
            max_attempts: options.attempts,
            concurrency: options.concurrency,
            speculate: options.speculate,
            ..EngineOptions::default()
        };
        if let Some(window) = options.window {
            engine_options.window_items = window as u64;
        }
        let request = MapRequest {
            function,
            combine,
            concurrency: options.concurrency,
            timeout: options.timeout,
            gather_time: engine_options.gather_time(lease.core().len()),
            report_every: options.timeout.map_or(REPORT_PERIOD, report_period),
        };
        let engine: Engine<DeathReason> = Engine::new(&engine_options, Instant::now());
        let members = lease.core().subscribe();
        MapTask::new(engine, source, request, members, output, reporter).run().await;
    }
}

/// Ends the results when the task is dropped, so that the consumer does not wait forever.
struct EndGuard(Arc<Output>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let why = "its task was dropped".to_owned();
        self.0.end(Err(MapEnd::Session { why }));
    }
}
