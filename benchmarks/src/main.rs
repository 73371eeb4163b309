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
mod mourner;
mod fresh;
mod role;
mod worker_process;
mod contenders;
mod chaos;
mod groups;

use std::io::Write;
use std::process::ExitCode;

use anyhow::ensure;

use group::Content;
use options::{ROUNDS, Wish};
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
    let (mut measured, mut bad) = (0, 0);
    for group in &options.groups {
        match group.content {
            Content::Figures(figures) => {
                for figure in figures()? {
                    if figure.name.starts_with(&options.only) {
                        report.add(rounds::run(figure, options.rounds.unwrap_or(ROUNDS))?)?;
                        measured += 1;
                    }
                }
            }
            Content::Chaos => {
                let sum = chaos::run(options.chaos())?;
                report.add(sum.rows())?;
                measured += 1;
                bad += sum.bad();
            }
        }
        report.end_group(group.name)?;
    }
    ensure!(measured > 0, "no figure of these groups begins with `{}`", options.only);
    ensure!(bad == 0, "chaos: {bad} things were not as they must be");
    Ok(())
}
