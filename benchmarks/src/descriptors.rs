//! The file descriptors of this process.

use std::fs;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of descriptors of this process, and of the processes it starts later, to its
/// maximum. Returns the maximum.
pub(crate) fn allow_all() -> anyhow::Result<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let allowed = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, allowed).context("failed to raise the limit of descriptors")?;
    Ok(maximum.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX))
}

/// Returns the number of open descriptors.
pub(crate) fn count() -> anyhow::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("failed to list the descriptors")?.count())
}
