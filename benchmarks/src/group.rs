//! The groups of figures; a new group is one file in `groups/` and one row here.

use crate::figure::Figure;
use crate::groups::{build, call, spawn, stream};

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) figures: fn() -> anyhow::Result<Vec<Figure>>,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "call",
        about: "calls of u64 -> u64, one after the other and 1,000 in flight",
        figures: call::figures,
    },
    Group {
        name: "spawn",
        about: "starting workers, and the memory an idle one holds",
        figures: spawn::figures,
    },
    Group {
        name: "stream",
        about: "streams, large arguments, cancelled calls",
        figures: stream::figures,
    },
    Group {
        name: "build",
        about: "what a program that uses us costs to compile (minutes)",
        figures: build::figures,
    },
];
