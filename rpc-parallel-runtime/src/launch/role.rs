//! What this process is: a master or a worker, decided once.

use std::sync::OnceLock;

use super::start::Recipe;

/// What a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It was started by somebody else, and may start workers.
    Master,
    /// It was started by a master. It may start workers too.
    Worker,
}

static ROLE: OnceLock<(Role, Recipe)> = OnceLock::new();

impl Role {
    /// Makes this process what it will be from now on.
    ///
    /// # Errors
    ///
    /// It is something already.
    pub(crate) fn assume(self, recipe: Recipe) -> Result<(), Self> {
        let mut mine = false;
        let (role, _) = ROLE.get_or_init(|| {
            mine = true;
            (self, recipe)
        });
        if mine { Ok(()) } else { Err(*role) }
    }

    pub(crate) fn current() -> Option<Self> {
        ROLE.get().map(|(role, _)| *role)
    }

    /// Returns how this process starts workers; none while it is nothing yet.
    pub(crate) fn recipe() -> Option<&'static Recipe> {
        ROLE.get().map(|(_, recipe)| recipe)
    }
}
