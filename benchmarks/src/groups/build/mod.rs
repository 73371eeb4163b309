//! What a program that uses us costs to compile, beside the same program by hand and with the peer.

mod source;
mod program;

use std::num::NonZeroUsize;

use anyhow::ensure;

use crate::figure::Figure;
use program::{Incremental, Profile, Program};
use source::{SOURCES, Shape};

/// A count is the same in every round.
const ONCE: NonZeroUsize = NonZeroUsize::new(1).expect("1 is not 0");
/// A round of builds takes a minute.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        figure("build.hello_crates", "crates", Shape::Hello, crates)?.at_most(ONCE),
        figure("build.hello_release", "s", Shape::Hello, cold_release)?.at_most(AT_MOST),
        figure("build.hello_size", "MB", Shape::Hello, stripped_size)?.at_most(ONCE),
        figure("build.hello_touch", "s", Shape::Hello, touched)?.at_most(AT_MOST),
        figure("build.functions_300", "s", Shape::Functions, alone)?.at_most(AT_MOST),
    ])
}

fn figure(
    name: &'static str,
    unit: &'static str,
    shape: Shape,
    measure: fn(&Program) -> anyhow::Result<f64>,
) -> anyhow::Result<Figure> {
    let mut figure = Figure::new(name, unit);
    for source in &SOURCES {
        let program = Program::write(source, shape)?;
        figure = figure.contender(source.who, move || measure(&program));
    }
    Ok(figure)
}

fn crates(program: &Program) -> anyhow::Result<f64> {
    Ok(program.crates()?.len() as f64)
}

fn cold_release(program: &Program) -> anyhow::Result<f64> {
    program.crates()?;
    program.forget_builds()?;
    let built = program.build(Profile::Release, Incremental::AsUsual)?;
    program.run(Profile::Release)?;
    Ok(built.elapsed.as_secs_f64())
}

/// Measures what is deployed: the release build without symbols, in units of 10^6 bytes.
fn stripped_size(program: &Program) -> anyhow::Result<f64> {
    program.crates()?;
    program.build(Profile::Release, Incremental::AsUsual)?;
    Ok(program.stripped_size(Profile::Release)? as f64 / 1e6)
}

/// Times what a programmer waits for after every change.
fn touched(program: &Program) -> anyhow::Result<f64> {
    rebuilt(program, Incremental::AsUsual)
}

/// Times the whole crate, and that crate alone: nothing is kept of an earlier compilation of it.
fn alone(program: &Program) -> anyhow::Result<f64> {
    rebuilt(program, Incremental::Off)
}

fn rebuilt(program: &Program, incremental: Incremental) -> anyhow::Result<f64> {
    program.crates()?;
    // The first round compiles the dependencies here, a later one finds nothing to do.
    program.build(Profile::Debug, incremental)?;
    program.touch()?;
    let built = program.build(Profile::Debug, incremental)?;
    ensure!(
        built.crates == 1,
        "{} crates were rebuilt, not one: do not edit while measuring",
        built.crates
    );
    program.run(Profile::Debug)?;
    Ok(built.elapsed.as_secs_f64())
}
