//! The environment variables of a worker: those of its master, with changes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// The changes to the environment that a worker inherits, in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    cleared: bool,
    changes: Vec<(OsString, Option<OsString>)>,
}

/// An invalid or reserved environment variable.
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

    /// Removes all inherited variables and all earlier changes.
    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.changes.clear();
    }

    /// Checks that all variables are valid and not reserved. `reserved` holds names and reasons.
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
