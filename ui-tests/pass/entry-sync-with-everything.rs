use std::process::ExitCode;

use rpc_parallel::Settings;

/// Shadows a name that the attribute uses.
fn settings() -> Settings {
    Settings::default().with_other_builds(true)
}

#[rpc_parallel::entry(worker(flavor = "multi_thread", threads = 2), settings = settings())]
pub(crate) fn main(mut args: std::env::Args) -> Result<ExitCode, std::io::Error> {
    let _ = args.next();
    Ok(ExitCode::SUCCESS)
}
