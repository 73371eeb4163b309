//! Set-up calls: calls of all workers of a pool, and of all that join later.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::set_up::{CallSetUp, SetUp};
use super::slots::SlotId;
use crate::connection::{CallErrorKind, SharedCall};

/// Makes a set-up call to all workers of a pool, and to those that join later.
///
/// # Errors
///
/// The call failed on a worker. It is not made to later workers.
pub(super) async fn set_up(
    core: &Arc<PoolCore>,
    message: SharedCall,
    call: CallSetUp,
) -> Result<(), PoolError> {
    let (set_up, slots) = core.add_set_up(message, call)?;
    let mut calls = JoinSet::new();
    for (slot_id, member) in slots {
        // Owner: the set, which is dropped with this future.
        calls.spawn(set_up_slot(core.clone(), slot_id, member, set_up.clone()));
    }
    while let Some(call) = calls.join_next().await {
        if let Err(error) = call.unwrap_or_else(|_| Err(PoolErrorKind::RuntimeEnded.into())) {
            core.remove_set_up(&set_up);
            return Err(error);
        }
    }
    Ok(())
}

/// Waits until the worker of a slot has answered a set-up call.
async fn set_up_slot(
    core: Arc<PoolCore>,
    slot_id: SlotId,
    member: Option<Arc<Member>>,
    set_up: Arc<SetUp>,
) -> Result<(), PoolError> {
    if let Some(member) = &member {
        match set_up.run(member).await {
            Ok(()) => return Ok(()),
            Err(why) if member.is_usable() => {
                return Err(PoolErrorKind::SetUp { worker_index: slot_id.index, why }.into());
            }
            // The worker has ended.
            Err(_) => {}
        }
    }
    // The next worker answers the call before it joins.
    core.replaced(slot_id, member.as_ref()).await
}

/// Converts the reason why a worker of a pool cannot be called into that of a call.
pub(super) fn call_error(error: &PoolError) -> CallErrorKind {
    match error.kind() {
        PoolErrorKind::ReplaceLimitReached { last, times, within } => {
            let (last, times, within) = (last.clone(), *times, *within);
            CallErrorKind::RestartLimitReached { last, times, within }
        }
        _ => CallErrorKind::ConnectionLost { why: error.to_string() },
    }
}
