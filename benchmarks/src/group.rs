//! The table of all groups.

use anyhow::bail;

use crate::figure::Figure;
use crate::groups::{build, call, life, map, spawn, stream};

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) figures: fn() -> anyhow::Result<Vec<Figure>>,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "call",
        description: "calls u64 -> u64, sequential and 1,000 in flight",
        figures: call::figures,
    },
    Group {
        name: "spawn",
        description: "starts of workers, memory of an idle worker",
        figures: spawn::figures,
    },
    Group {
        name: "stream",
        description: "streams, large arguments, cancelled calls",
        figures: stream::figures,
    },
    Group {
        name: "life",
        description: "notice of failures, idle workers, 1,000 workers",
        figures: life::figures,
    },
    Group {
        name: "map",
        description: "maps over worker processes (takes minutes)",
        figures: map::figures,
    },
    Group {
        name: "build",
        description: "compile time and size of programs (takes minutes)",
        figures: build::figures,
    },
];

/// Returns the figure with the given name.
pub(crate) fn figure(name: &str) -> anyhow::Result<Figure> {
    for group in GROUPS {
        if let Some(figure) = (group.figures)()?.into_iter().find(|it| it.name == name) {
            return Ok(figure);
        }
    }
    bail!("unknown figure `{name}`")
}
