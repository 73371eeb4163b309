//! The label of a worker in logs and errors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::fields;

/// The label of a worker in logs and errors: its name, type, process id and host.
///
/// `Display` writes, for example, ``worker `indexer` (app::Indexer, pid 4711 on ada)``.
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

    /// Returns the name that was set when the worker was started, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the path of the worker's type, for example `app::index::Indexer`.
    #[must_use]
    pub fn worker_type(&self) -> &str {
        &self.worker_type
    }

    /// Returns the id of the worker's process on its host, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the name of the worker's host.
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

/// Returns the name of this host.
pub(crate) fn host_name() -> String {
    if cfg!(miri) {
        // Miri leaves fields of `utsname` uninitialized, which `uname` reads.
        return "localhost".to_owned();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
