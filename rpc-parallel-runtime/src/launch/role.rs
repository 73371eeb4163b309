//! What this process is: a master or a worker, decided once.

use std::sync::OnceLock;

use super::boot_token::BootToken;
use super::start::SpawnDefaults;

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It was started by somebody else, and may start workers.
    Master,
    /// It was started by a master. It may start workers too.
    Worker,
}

/// A role, with what it takes to start workers in it.
struct Assumed {
    role: Role,
    spawn_defaults: SpawnDefaults,
    depth: u32,
}

static ROLE: OnceLock<Assumed> = OnceLock::new();

impl Role {
    /// Makes this process what it will be from now on.
    ///
    /// # Errors
    ///
    /// It is something already.
    pub(crate) fn assume(self, spawn_defaults: SpawnDefaults) -> Result<(), Self> {
        let mut mine = false;
        let assumed = ROLE.get_or_init(|| {
            mine = true;
            // Read once: a program may change its environment later.
            Assumed { role: self, spawn_defaults, depth: BootToken::depth_here() }
        });
        if mine { Ok(()) } else { Err(assumed.role) }
    }

    pub(crate) fn current() -> Option<Self> {
        ROLE.get().map(|it| it.role)
    }

    /// Returns how this process starts workers; none while it is nothing yet.
    pub(crate) fn spawn_defaults() -> Option<&'static SpawnDefaults> {
        ROLE.get().map(|it| &it.spawn_defaults)
    }

    /// Returns how many levels of masters are above this process. Default: 0.
    pub(crate) fn depth() -> u32 {
        ROLE.get().map_or(0, |it| it.depth)
    }
}
