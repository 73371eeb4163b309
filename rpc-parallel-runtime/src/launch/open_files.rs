//! The limit of open descriptors of this process, which is raised when workers need it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::limit::ResourceLimit;
use crate::transport::Origin;

/// The most descriptors that are left when the soft limit is raised: enough for the starts that are in
/// progress. With a low limit, a quarter of it is left.
const MARGIN: u64 = 256;

/// The limits before the soft one was raised, and the process that raised it.
static BEFORE: OnceLock<(Rlimit, Origin)> = OnceLock::new();

/// Raises the soft limit of open descriptors to the hard one if the number of a new descriptor shows
/// that few are left.
///
/// The soft limit exists for programs that use `select`, which takes no descriptors above 1023. So it
/// is not raised in programs with few workers, and not in workers ([`inherited_limit`]).
pub(super) fn make_room(new: BorrowedFd<'_>) {
    let number = u64::from(new.as_raw_fd().unsigned_abs());
    let limits = getrlimit(Resource::Nofile);
    let Some(soft) = limits.current else { return };
    if number + MARGIN.min(soft / 4) < soft || limits.maximum == Some(soft) {
        return;
    }
    // If this fails, the errors of starts without a descriptor tell how to raise the limit.
    if setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).is_ok() {
        let _ = BEFORE.set((limits, Origin::here()));
    }
}

/// Returns the limit for a new worker, if that of this process was raised.
pub(super) fn inherited_limit() -> Option<ResourceLimit> {
    let (Rlimit { current, maximum }, origin) = BEFORE.get()?;
    let count = |it: &Option<u64>| it.unwrap_or(ResourceLimit::UNLIMITED);
    let limit = ResourceLimit::open_files(count(current)).hard(count(maximum));
    (!origin.is_other_process()).then_some(limit)
}
