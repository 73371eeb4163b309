//! The groups of figures; a new group is one file in `groups/` and one row here.

use crate::figure::Figure;
use crate::groups::{build, call, life, spawn, stream};

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) content: Content,
}

/// What a group has to say.
pub(crate) enum Content {
    Figures(fn() -> anyhow::Result<Vec<Figure>>),
    /// Counts of what went wrong, instead of medians.
    Chaos,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "call",
        about: "calls of u64 -> u64, one after the other and 1,000 in flight",
        content: Content::Figures(call::figures),
    },
    Group {
        name: "spawn",
        about: "starting workers, and the memory an idle one holds",
        content: Content::Figures(spawn::figures),
    },
    Group {
        name: "stream",
        about: "streams, large arguments, cancelled calls",
        content: Content::Figures(stream::figures),
    },
    Group {
        name: "life",
        about: "deaths that are noticed, idle workers, and a thousand at once",
        content: Content::Figures(life::figures),
    },
    Group {
        name: "chaos",
        about: "rounds in which processes are killed and stopped: what is lost, hangs or is left",
        content: Content::Chaos,
    },
    Group {
        name: "build",
        about: "what a program that uses us costs to compile (minutes)",
        content: Content::Figures(build::figures),
    },
];
