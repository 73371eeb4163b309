//! The workers that this process has started and that live.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::timeout;

use super::keeper::Keeper;
use super::order::Order;
use super::process::Process;
use crate::connection::Autopsy;
use crate::transport::Address;
use crate::wire::{Label, WorkerId};

/// How long the end of a worker may come after the end of its connection.
const AUTOPSY_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker that this process has started.
pub(crate) struct Started {
    pub(super) id: WorkerId,
    pub(super) label: Label,
    pub(super) process: Arc<Process>,
    pub(super) control: OwnedFd,
    /// Where it is found by other processes, once it listens for them.
    pub(super) address: Mutex<Option<Address>>,
}

/// The workers that this process has started and that live.
pub(crate) struct Children(Mutex<HashMap<WorkerId, Arc<Started>>>);

impl Children {
    pub(crate) fn get() -> &'static Self {
        static CHILDREN: LazyLock<Children> = LazyLock::new(|| Children(Mutex::default()));
        &CHILDREN
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<Arc<Started>> {
        self.table().get(&id).cloned()
    }

    pub(super) fn insert(&self, started: Arc<Started>) {
        self.table().insert(started.id, started);
    }

    /// Forgets a worker that has died.
    pub(super) fn remove(&self, id: WorkerId) {
        let Some(started) = self.table().remove(&id) else { return };
        // Connections to it may be kept for much longer.
        drop(started.address().take());
    }

    fn table(&self) -> MutexGuard<'_, HashMap<WorkerId, Arc<Started>>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

/// A worker that must not outlive what holds this.
struct Owned(Arc<Started>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Started {
    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// Ends the worker's process and waits until it is gone.
    pub(crate) async fn kill(&self) {
        self.process.kill();
        self.process.death().await;
    }

    /// Tells the worker that its master is done with it, and ends it if it does not listen.
    fn release(&self) {
        if self.process.is_dead() {
            return;
        }
        // It fails only where the worker is ending already.
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Both);
        if let Ok(keeper) = Keeper::get() {
            keeper.end_soon(self.process.clone());
        }
    }

    /// Hands the worker its end of a new connection.
    pub(crate) fn hand_over(&self, socket: impl AsFd) -> io::Result<()> {
        Order::Connection.send(&self.control, socket.as_fd())
    }

    /// Returns where the worker listens for other processes, and makes it listen first.
    pub(crate) fn listen(&self) -> io::Result<PathBuf> {
        let mut address = self.address();
        if let Some(address) = &*address {
            return Ok(address.path());
        }
        let (listener, new) = Address::of_new_listener()?;
        // Who connects before the worker has taken the listener over waits in its queue.
        Order::Listener.send(&self.control, listener.as_fd())?;
        Ok(address.insert(new).path())
    }

    /// Returns what will tell how the worker ended.
    pub(crate) fn autopsy(&self) -> Autopsy {
        let (process, label) = (self.process.clone(), self.label.clone());
        Box::pin(async move {
            let death = timeout(AUTOPSY_TIMEOUT, process.death()).await.ok()?;
            Some(process.failure(label, death))
        })
    }

    /// Does the same, and ends the worker when it is dropped: with the connection it lives with.
    pub(crate) fn owner_autopsy(self: Arc<Self>) -> Autopsy {
        let autopsy = self.autopsy();
        let owned = Owned(self);
        Box::pin(async move {
            let failure = autopsy.await;
            drop(owned);
            failure
        })
    }

    fn address(&self) -> MutexGuard<'_, Option<Address>> {
        self.address.lock().expect("nobody panics while holding this lock")
    }
}
