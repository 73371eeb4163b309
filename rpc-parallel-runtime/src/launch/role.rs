//! The role of this process, master or worker, which is set once.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::boot_token::BootToken;
use super::start::SpawnDefaults;

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
}

static ROLE: OnceLock<Assumed> = OnceLock::new();

impl Role {
    /// Sets the role of this process.
    ///
    /// # Errors
    ///
    /// The process already has a role, which is returned.
    pub(crate) fn assume(self, spawn_defaults: SpawnDefaults) -> Result<(), Self> {
        let mut is_first = false;
        let assumed = ROLE.get_or_init(|| {
            is_first = true;
            // The depth is read once, because the program may change its environment later.
            let affinity = sched_getaffinity(None).ok();
            Assumed { role: self, spawn_defaults, depth: BootToken::depth_here(), affinity }
        });
        if is_first { Ok(()) } else { Err(assumed.role) }
    }

    pub(crate) fn current() -> Option<Self> {
        ROLE.get().map(|it| it.role)
    }

    /// Returns the spawn defaults of this process. Returns `None` if it has no role yet.
    pub(crate) fn spawn_defaults() -> Option<&'static SpawnDefaults> {
        ROLE.get().map(|it| &it.spawn_defaults)
    }

    /// Returns the number of masters above this process. Default: 0.
    pub(crate) fn depth() -> u32 {
        ROLE.get().map_or(0, |it| it.depth)
    }

    /// Gives this thread the CPU affinity that the process had when its role was set.
    ///
    /// A new thread inherits the affinity of the thread that starts it, and workers inherit that of
    /// the thread that starts them.
    pub(super) fn restore_affinity() {
        if let Some(affinity) = ROLE.get().and_then(|it| it.affinity) {
            // It fails if the processors were taken from this process meanwhile.
            let _ = sched_setaffinity(None, &affinity);
        }
    }
}
