//! Fresh masters: processes that make one measurement of themselves and send it to this process.
//!
//! In this process, memory that the allocator has kept would hide the cost of workers, and the
//! descriptors and threads of earlier measurements would count.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::role::Role;
use crate::worker_process;

/// Starts a fresh master of the given role and returns its measurement.
pub(crate) fn measure<T: DeserializeOwned>(role: Role) -> anyhow::Result<T> {
    let (mut socket, process) = worker_process::start(role)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    process.wait()?;
    serde_json::from_slice(&answer).with_context(|| {
        format!("failed to parse the measurement of the fresh master `{}`", role.name())
    })
}

/// Sends the measurement of a fresh master.
pub(crate) fn send<T: Serialize>(mut socket: UnixStream, measurement: &T) -> anyhow::Result<()> {
    Ok(socket.write_all(&serde_json::to_vec(measurement)?)?)
}

/// Fresh masters that measure several values: one master per round for all its contenders.
pub(crate) struct SharedRuns<T> {
    role: Role,
    runs: Rc<RefCell<Vec<T>>>,
}

impl<T: DeserializeOwned + Copy + 'static> SharedRuns<T> {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, runs: Rc::default() }
    }

    /// Returns the measure of one value. The first measure of a round starts the fresh master.
    pub(crate) fn value(
        &self,
        value: fn(T) -> f64,
    ) -> impl FnMut() -> anyhow::Result<f64> + 'static {
        let (role, runs) = (self.role, self.runs.clone());
        let mut used = 0;
        move || {
            let mut runs = runs.borrow_mut();
            if runs.len() == used {
                runs.push(measure(role)?);
            }
            used += 1;
            Ok(value(runs[used - 1]))
        }
    }
}
