//! Fresh masters: processes that measure something of themselves once, and report it.
//!
//! Memory that this process has given back to its allocator would hide what workers cost it, and
//! descriptors and threads of those measured before would be counted.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::role::Role;
use crate::worker_process;

/// Has a fresh master of the given role measure.
pub(crate) fn measured<T: DeserializeOwned>(role: Role) -> anyhow::Result<T> {
    let (mut socket, process) = worker_process::start(role)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    process.wait()?;
    serde_json::from_slice(&answer)
        .with_context(|| format!("understand the fresh master for `{}`", role.name()))
}

/// The fresh master: reports what it has measured.
pub(crate) fn report<T: Serialize>(mut socket: UnixStream, measured: &T) -> anyhow::Result<()> {
    Ok(socket.write_all(&serde_json::to_vec(measured)?)?)
}

/// Fresh masters that measure several values at once: each round has one, for all its contenders.
pub(crate) struct Runs<T> {
    role: Role,
    runs: Rc<RefCell<Vec<T>>>,
}

impl<T: DeserializeOwned + Copy + 'static> Runs<T> {
    pub(crate) fn of(role: Role) -> Self {
        Self { role, runs: Rc::default() }
    }

    /// Returns the measure of one of the values; who comes first in a round has it measured.
    pub(crate) fn value(
        &self,
        value: fn(T) -> f64,
    ) -> impl FnMut() -> anyhow::Result<f64> + 'static {
        let (role, runs) = (self.role, self.runs.clone());
        let mut taken = 0;
        move || {
            let mut runs = runs.borrow_mut();
            if runs.len() == taken {
                runs.push(measured(role)?);
            }
            taken += 1;
            Ok(value(runs[taken - 1]))
        }
    }
}
