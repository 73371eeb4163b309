//! Figures of rpc-parallel with given settings, beside rpc-parallel without them.

use crate::figure::{Figure, RPC_PARALLEL};
use crate::fresh_process;

/// The environment variable that overrides the settings of a program and its workers.
pub(crate) const SETTINGS_VARIABLE: &str = "RPC_PARALLEL_SETTINGS";

/// Returns the same quantity of rpc-parallel with `settings`, as the reference of the ratio, and of
/// rpc-parallel without them. Returns `None` if the figure has no contender of that name.
pub(crate) fn compare(figure: &Figure, settings: &str) -> Option<Figure> {
    figure.contenders.iter().find(|it| it.name == RPC_PARALLEL)?;
    let (name, owned_settings) = (figure.name, settings.to_owned());
    let comparison = Figure::new(name, figure.unit)
        .with_max_rounds(figure.max_rounds)
        .contender(format!("{RPC_PARALLEL} ({settings})"), move || {
            fresh_process::measure(name, RPC_PARALLEL, &[(SETTINGS_VARIABLE, &owned_settings)])
        })
        .contender(RPC_PARALLEL, move || fresh_process::measure(name, RPC_PARALLEL, &[]));
    Some(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::FLOOR;

    #[test]
    fn given_settings_are_the_reference() {
        let figure = Figure::new("it", "us")
            .contender(FLOOR, || Ok(1.0))
            .contender(RPC_PARALLEL, || Ok(2.0));

        let comparison = compare(&figure, "max_depth=2").expect("the figure measures rpc-parallel");

        let names: Vec<_> = comparison.contenders.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["rpc-parallel (max_depth=2)", "rpc-parallel"]);
    }

    #[test]
    fn figure_without_rpc_parallel_has_no_comparison() {
        let figure = Figure::new("it", "us").contender(FLOOR, || Ok(1.0));

        assert!(compare(&figure, "max_depth=2").is_none());
    }
}
