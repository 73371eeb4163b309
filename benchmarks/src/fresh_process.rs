//! Contenders that a fresh process measures, with other environment variables.
//!
//! A process reads its settings and the flavor of its workers' runtimes when it starts, so this
//! process cannot measure with others.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The option that makes a process measure one contender of one figure and print the value.
pub(crate) const OPTION: &str = "--measure";

/// Measures a contender of a figure once in a fresh process.
pub(crate) fn measure(
    figure: &str,
    contender: &str,
    environment: &[(&str, &str)],
) -> anyhow::Result<f64> {
    let output = Command::new("/proc/self/exe")
        .args([OPTION, figure, contender])
        .envs(environment.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start a fresh process")?;
    ensure!(output.status.success(), "the fresh process exited: {}", output.status);
    let value = String::from_utf8_lossy(&output.stdout);
    value.trim().parse().with_context(|| format!("expected a value, found `{value}`"))
}
