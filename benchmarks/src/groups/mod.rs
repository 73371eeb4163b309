//! The groups: one file or folder each.

pub(crate) mod call;
pub(crate) mod spawn;
pub(crate) mod stream;
pub(crate) mod life;
pub(crate) mod map;
pub(crate) mod build;
