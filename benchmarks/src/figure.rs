//! One figure: a quantity and its contenders.

use std::num::NonZeroUsize;

use anyhow::Context;

/// The minimum: the same bytes or processes without a framework.
pub(crate) const FLOOR: &str = "floor";
pub(crate) const RPC_PARALLEL: &str = "rpc-parallel";
/// The peer that targets refer to.
pub(crate) const TARPC: &str = "tarpc";
pub(crate) const REMOC: &str = "remoc";
/// Threads instead of processes.
pub(crate) const RAYON: &str = "rayon";

/// A quantity and its contenders.
///
/// The first contender is the reference of all ratios: the floor where there is one.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) max_rounds: NonZeroUsize,
    pub(crate) contenders: Vec<Contender>,
}

/// A library or a variant of it that a figure measures.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) measure: Measure,
}

/// Measures one contender once, in the unit of its figure.
pub(crate) type Measure = Box<dyn FnMut() -> anyhow::Result<f64>>;

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, max_rounds: NonZeroUsize::MAX, contenders: Vec::new() }
    }

    /// Limits the rounds of a slow figure, regardless of the command line.
    pub(crate) fn with_max_rounds(mut self, rounds: NonZeroUsize) -> Self {
        self.max_rounds = rounds;
        self
    }

    pub(crate) fn contender(
        mut self,
        name: impl Into<String>,
        measure: impl FnMut() -> anyhow::Result<f64> + 'static,
    ) -> Self {
        self.contenders.push(Contender { name: name.into(), measure: Box::new(measure) });
        self
    }

    /// Measures the contender with the given name once.
    pub(crate) fn measure(&mut self, name: &str) -> anyhow::Result<f64> {
        let contender = self.contenders.iter_mut().find(|it| it.name == name);
        let contender =
            contender.with_context(|| format!("`{}` has no contender `{name}`", self.name))?;
        (contender.measure)()
    }
}
