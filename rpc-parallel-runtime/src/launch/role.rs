//! The role of this process, master or worker, which is set once.

use std::sync::{PoisonError, RwLock};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::boot_token::BootToken;
use super::start::SpawnDefaults;
use crate::transport::Origin;

/// The role of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// No master has started the process. It may start workers.
    Master,
    /// A master has started the process. It may start workers too.
    Worker,
}

/// The role of this process, and its defaults for starting workers.
struct Assumed {
    role: Role,
    spawn_defaults: SpawnDefaults,
    depth: u32,
    /// The CPU affinity of the thread that set the role. `None` if the kernel does not tell it.
    affinity: Option<CpuSet>,
    /// The process that set the role.
    origin: Origin,
}

// A worker that is forked from its master replaces the role that it has inherited.
static ROLE: RwLock<Option<&'static Assumed>> = RwLock::new(None);

impl Role {
    /// Sets the role of this process.
    ///
    /// # Errors
    ///
    /// The process already has a role, which is returned. A role that it has inherited by a fork does
    /// not count.
    pub(crate) fn assume(self, spawn_defaults: SpawnDefaults) -> Result<(), Self> {
        let mut assumed = ROLE.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(assumed) = *assumed
            && !assumed.origin.is_other_process()
        {
            return Err(assumed.role);
        }
        let affinity = sched_getaffinity(None).ok();
        // The depth is read once, because the program may change its environment later.
        let (depth, origin) = (BootToken::depth_here(), Origin::here());
        let new = Assumed { role: self, spawn_defaults, depth, affinity, origin };
        // It lasts as long as the process, which sets it once.
        *assumed = Some(Box::leak(Box::new(new)));
        Ok(())
    }

    pub(crate) fn current() -> Option<Self> {
        assumed().map(|it| it.role)
    }

    /// Returns the spawn defaults of this process. Returns `None` if it has no role yet.
    pub(crate) fn spawn_defaults() -> Option<&'static SpawnDefaults> {
        assumed().map(|it| &it.spawn_defaults)
    }

    /// Returns the number of masters above this process. Default: 0.
    pub(crate) fn depth() -> u32 {
        assumed().map_or(0, |it| it.depth)
    }

    /// Gives this thread the CPU affinity that the process had when its role was set.
    ///
    /// A new thread inherits the affinity of the thread that starts it, and workers inherit that of
    /// the thread that starts them.
    pub(super) fn restore_affinity() {
        if let Some(affinity) = assumed().and_then(|it| it.affinity) {
            // It fails if the processors were taken from this process meanwhile.
            let _ = sched_setaffinity(None, &affinity);
        }
    }
}

fn assumed() -> Option<&'static Assumed> {
    *ROLE.read().unwrap_or_else(PoisonError::into_inner)
}
