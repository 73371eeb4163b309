//! The environment of a worker: that of its master, but for what was changed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// What changes in the environment that a worker inherits, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    cleared: bool,
    changes: Vec<(OsString, Option<OsString>)>,
}

/// A change that cannot be made.
pub(crate) struct BadVariable {
    pub(crate) name: OsString,
    pub(crate) why: &'static str,
}

impl Environment {
    pub(crate) fn set(&mut self, name: OsString, value: OsString) {
        self.changes.push((name, Some(value)));
    }

    pub(crate) fn remove(&mut self, name: OsString) {
        self.changes.push((name, None));
    }

    /// Drops all that would be inherited and what was set so far.
    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.changes.clear();
    }

    /// Says whether users may change it like this: some variables are reserved, for reasons.
    pub(crate) fn check(&self, reserved: &[(&str, &'static str)]) -> Result<(), BadVariable> {
        for (name, value) in &self.changes {
            let value = value.as_deref().unwrap_or_default();
            let reserved = reserved.iter().find(|(reserved, _)| name == reserved);
            let why = match name.as_bytes() {
                [] => "its name is empty",
                bytes if bytes.contains(&b'=') => "its name contains `=`",
                bytes if bytes.contains(&0) => "its name contains a zero byte",
                _ if value.as_bytes().contains(&0) => "its value contains a zero byte",
                _ => match reserved {
                    Some((_, why)) => why,
                    None => continue,
                },
            };
            return Err(BadVariable { name: name.clone(), why });
        }
        Ok(())
    }

    pub(super) fn is_cleared(&self) -> bool {
        self.cleared
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.changes.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    pub(super) fn apply(&self, command: &mut Command) {
        if self.cleared {
            command.env_clear();
        }
        for (name, value) in self.changes() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
}
