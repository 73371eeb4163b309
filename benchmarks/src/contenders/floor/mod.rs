//! The floors: the same bytes over the same kind of socket, without a framework.

pub(crate) mod calls;
pub(crate) mod requests;
pub(crate) mod channels;
pub(crate) mod failure;
pub(crate) mod items;
