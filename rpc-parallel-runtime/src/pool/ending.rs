//! The end of all workers of a pool, requested or by force.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use crate::launch::Started;
use crate::master::{ControlError, kill_started, shut_down_started};

/// How long a worker may take to shut down.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the end of a worker is requested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Shutdown,
    Kill,
}

impl Ending {
    async fn end(self, started: Arc<Started>) -> Result<(), ControlError> {
        match self {
            Self::Shutdown => shut_down_started(started, TIMEOUT).await,
            Self::Kill => kill_started(started).await,
        }
    }
}

/// Ends all workers of a pool, and waits until their processes have exited.
pub(super) async fn end_pool(core: &PoolCore, ending: Ending) -> Result<(), PoolError> {
    // A worker without a client would end within a shorter time.
    let (members, retiring) = core.end();
    let serving = members.iter().map(|it| it.started().clone());
    let mut ends = JoinSet::new();
    for started in serving.chain(retiring).filter(|it| !it.is_dead()) {
        // Owner: the set, which is dropped with this future.
        ends.spawn(ending.end(started));
    }
    let mut errors = Vec::new();
    while let Some(end) = ends.join_next().await {
        // The tasks do not panic.
        if let Ok(Err(error)) = end {
            errors.push(error);
        }
    }
    drop(members);
    match &errors[..] {
        [] => Ok(()),
        _ => Err(PoolErrorKind::NotShutDown { errors }.into()),
    }
}
