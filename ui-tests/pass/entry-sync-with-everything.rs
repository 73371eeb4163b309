use std::process::ExitCode;

#[rpc_parallel::entry(worker(flavor = "multi_thread", threads = 2), max_message_size = 1 << 20)]
pub(crate) fn main(mut args: std::env::Args) -> Result<ExitCode, std::io::Error> {
    let _ = args.next();
    Ok(ExitCode::SUCCESS)
}
