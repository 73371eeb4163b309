//! One figure: a quantity, and those who are measured for it.

use std::num::NonZeroUsize;

/// The least that the same work costs without a program around it.
pub(crate) const FLOOR: &str = "floor";
pub(crate) const RPC_PARALLEL: &str = "rpc-parallel";
/// The peer that the targets name.
pub(crate) const TARPC: &str = "tarpc";
pub(crate) const REMOC: &str = "remoc";

/// A quantity, and those who are measured for it.
///
/// The others are compared with the first: the floor, or what a figure without one is beside.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) most_rounds: NonZeroUsize,
    pub(crate) contenders: Vec<Contender>,
}

pub(crate) struct Contender {
    pub(crate) who: String,
    pub(crate) measure: Measure,
}

/// Measures one contender once, in the unit of its figure.
pub(crate) type Measure = Box<dyn FnMut() -> anyhow::Result<f64>>;

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, most_rounds: NonZeroUsize::MAX, contenders: Vec::new() }
    }

    /// Limits the rounds of a slow figure, whatever the command line asks for.
    pub(crate) fn at_most(mut self, rounds: NonZeroUsize) -> Self {
        self.most_rounds = rounds;
        self
    }

    pub(crate) fn contender(
        mut self,
        who: impl Into<String>,
        measure: impl FnMut() -> anyhow::Result<f64> + 'static,
    ) -> Self {
        self.contenders.push(Contender { who: who.into(), measure: Box::new(measure) });
        self
    }
}
