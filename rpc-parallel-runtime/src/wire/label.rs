//! How a worker is named in messages to people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::fields;

/// What people call a worker: its name, its type, its process and host.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WorkerLabel {
    pub(crate) name: Option<String>,
    pub(crate) worker_type: String,
    pub(crate) pid: Option<u32>,
    pub(crate) host: String,
}

fields!(struct WorkerLabel { name, worker_type, pid, host });

impl WorkerLabel {
    /// Describes a worker in this process.
    pub(crate) fn here(name: Option<String>, worker_type: String) -> Self {
        Self { name, worker_type, pid: Some(std::process::id()), host: host_name() }
    }

    /// Returns the name that the worker was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the path of the worker's type.
    #[must_use]
    pub fn worker_type(&self) -> &str {
        &self.worker_type
    }

    /// Returns the number of the worker's process, on its host.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns what the worker's host calls itself.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for WorkerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, worker_type, pid, host } = self;
        match name {
            Some(name) => write!(f, "worker `{name}` ({worker_type}, ")?,
            None => write!(f, "worker {worker_type} (")?,
        }
        match pid {
            Some(pid) => write!(f, "pid {pid} on {host})"),
            None => write!(f, "on {host})"),
        }
    }
}

/// Returns what this host calls itself.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
