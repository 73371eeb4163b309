//! Measures rpc-parallel, its floors and its peers.
//!
//! Every process of a measurement is this executable: the master that measures, the workers of
//! rpc-parallel, the workers of floors and peers, which `--serve` starts, and fresh processes that
//! measure one contender, which `--measure` starts.

mod options;
mod group;
mod figure;
mod rounds;
mod report;
mod affinity;
mod runtime;
mod memory;
mod cpu_time;
mod descriptors;
mod worker_handle;
mod echo_caller;
mod number_streamer;
mod bulk_caller;
mod cancellation_probe;
mod cancellable_caller;
mod stream_opener;
mod child_processes;
mod failure_observer;
mod busy_processes;
mod fresh_master;
mod fresh_process;
mod settings_comparison;
mod items;
mod item_runner;
mod program;
mod role;
mod worker_process;
mod contenders;
mod groups;

use std::io::Write;
use std::process::ExitCode;

use anyhow::ensure;
use rpc_parallel::expert::{self, Master};

use contenders::rpc_parallel::snapshots;
use options::Command;
use report::Report;

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
    if expert::is_worker() {
        match expert::worker_main()? {}
    }
    // `#[entry]` would set the flavor of workers at compile time.
    Master::builder().worker_flavor(runtime::flavor()?).start()?;
    match options::parse(std::env::args_os().skip(1))? {
        Command::Help => Ok(std::io::stdout().write_all(options::usage().as_bytes())?),
        Command::Serve(role) => role.serve(),
        Command::MeasureContender { figure, contender } => {
            let value = group::figure(&figure)?.measure(&contender)?;
            Ok(writeln!(std::io::stdout(), "{value}")?)
        }
        Command::Measure(options) => measure(&options),
    }
}

fn measure(options: &options::Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("warning: debug build; only `cargo run --release` gives valid figures");
    }
    for group in &options.groups {
        for figure in (group.figures)()? {
            if figure.name.starts_with(&options.name_prefix) {
                snapshots::take_for(figure.name)?;
            }
        }
    }
    let mut report = Report::begin(options.format)?;
    let mut measured = 0;
    for group in &options.groups {
        for figure in (group.figures)()? {
            if !figure.name.starts_with(&options.name_prefix) {
                continue;
            }
            let figure = match &options.compared_settings {
                Some(settings) => settings_comparison::compare(&figure, settings),
                None => Some(figure),
            };
            if let Some(figure) = figure {
                report.add(rounds::run(figure, options.rounds)?)?;
                measured += 1;
            }
        }
        report.end_group(group.name)?;
    }
    ensure!(
        measured > 0,
        "these groups have no figure with the prefix `{}` to measure",
        options.name_prefix
    );
    Ok(())
}
