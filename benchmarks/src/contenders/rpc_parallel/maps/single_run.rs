//! One function in one process.

#[rpc_parallel::process]
fn square(x: u64) -> u64 {
    x * x
}

/// Runs the function in a process of its own.
pub(crate) async fn run_square(x: u64) -> anyhow::Result<u64> {
    Ok(square::run(x).await?)
}
