//! How a worker is named in messages to people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What people call a worker: its name, its type, its process and host.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Label {
    pub(crate) name: Option<String>,
    pub(crate) worker_type: String,
    pub(crate) pid: Option<u32>,
    pub(crate) host: String,
}

impl fmt::Display for Label {
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
