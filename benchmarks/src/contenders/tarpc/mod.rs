//! A peer: tarpc with bincode over a Unix socket, set up as its own documentation does.

pub(crate) mod calls;
