//! The groups, a file each.

pub(crate) mod call;
pub(crate) mod spawn;
pub(crate) mod build;
