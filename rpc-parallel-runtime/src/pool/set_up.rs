//! The set-up calls of a pool: calls that every worker answers before it gets any work.

use std::pin::Pin;
use std::sync::Arc;

use super::member::Member;
use crate::connection::{Client, SharedCall};

/// A set-up call, encoded once.
pub(super) struct SetUp {
    /// The number of set-up calls of the pool up to this one.
    pub(super) id: u64,
    pub(super) message: SharedCall,
    pub(super) call: CallSetUp,
}

/// Calls the function of a message. The error is the text of the error of the call.
pub(super) type CallSetUp = fn(&Client, &SharedCall) -> SetUpFuture;

pub(super) type SetUpFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The set-up calls that are replayed to new workers, in their order.
#[derive(Default)]
pub(super) struct SetUps {
    calls: Vec<Arc<SetUp>>,
    count: u64,
}

impl SetUp {
    /// Calls the function on a worker.
    pub(super) async fn run(&self, member: &Member) -> Result<(), String> {
        member.begin_set_up();
        (self.call)(member.client(), &self.message).await?;
        member.end_set_up(self.id);
        Ok(())
    }
}

impl SetUps {
    /// Adds a call, which all later workers answer before they join the pool.
    pub(super) fn add(&mut self, message: SharedCall, call: CallSetUp) -> Arc<SetUp> {
        self.count += 1;
        let set_up = Arc::new(SetUp { id: self.count, message, call });
        self.calls.push(set_up.clone());
        set_up
    }

    /// Removes a call that has failed.
    pub(super) fn remove(&mut self, id: u64) {
        self.calls.retain(|it| it.id != id);
    }

    /// Returns the calls that a new worker has not answered yet.
    pub(super) fn missing(&self, member: &Member) -> Vec<Arc<SetUp>> {
        let last = member.last_set_up();
        self.calls.iter().filter(|it| it.id > last).cloned().collect()
    }
}
