//! Measures rpc-parallel beside its floors and its peers.
//!
//! Every process of a measurement is this executable: the master that measures, the workers of
//! rpc-parallel, which `entry` diverts, and the workers of floors and peers, which `--serve` starts.

mod options;
mod group;
mod figure;
mod rounds;
mod report;
mod machine;
mod place;
mod memory;
mod conversation;
mod caller;
mod streamer;
mod carrier;
mod holding;
mod canceller;
mod opener;
mod role;
mod worker_process;
mod contenders;
mod groups;

use std::io::Write;
use std::process::ExitCode;

use anyhow::ensure;

use options::Wish;
use report::Report;

#[rpc_parallel::entry]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match options::parse(std::env::args_os().skip(1))? {
        Wish::Help => Ok(std::io::stdout().write_all(options::usage().as_bytes())?),
        Wish::Serve(role) => role.serve(),
        Wish::Measure(options) => measure(&options),
    }
}

fn measure(options: &options::Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: a debug build; figures count with `cargo run --release` only");
    }
    let mut report = Report::begin(options.format)?;
    let mut measured = 0;
    for group in &options.groups {
        for figure in (group.figures)()? {
            if figure.name.starts_with(&options.only) {
                report.add(rounds::run(figure, options.rounds)?)?;
                measured += 1;
            }
        }
        report.end_group(group.name)?;
    }
    ensure!(measured > 0, "no figure of these groups begins with `{}`", options.only);
    Ok(())
}
