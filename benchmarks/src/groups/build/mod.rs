//! Compile time and size of programs, compared with the same programs by hand and with tarpc.

mod source;

use std::num::NonZeroUsize;

use anyhow::ensure;

use crate::figure::Figure;
use crate::program::{Incremental, Profile, Program};
use source::{ProgramKind, SOURCES};

/// The value is the same in every round.
const ONCE: NonZeroUsize = NonZeroUsize::new(1).expect("1 is not 0");
/// A round takes a minute.
const MAX_ROUNDS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// What every program prints. Its output is checked: a program that does nothing would compile
/// faster.
const OUTPUT: &str = "hello, world\n";

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        figure("build.hello_crates", "crates", ProgramKind::Hello, crates)?.with_max_rounds(ONCE),
        figure("build.hello_release", "s", ProgramKind::Hello, cold_release)?
            .with_max_rounds(MAX_ROUNDS),
        figure("build.hello_size", "MB", ProgramKind::Hello, stripped_size)?.with_max_rounds(ONCE),
        figure("build.hello_touch", "s", ProgramKind::Hello, touched_build)?
            .with_max_rounds(MAX_ROUNDS),
        figure("build.functions_300", "s", ProgramKind::Functions, full_crate_build)?
            .with_max_rounds(MAX_ROUNDS),
    ])
}

fn figure(
    name: &'static str,
    unit: &'static str,
    kind: ProgramKind,
    measure: fn(&Program) -> anyhow::Result<f64>,
) -> anyhow::Result<Figure> {
    let mut figure = Figure::new(name, unit);
    for source in &SOURCES {
        let program = Program::write(&source.main(kind), source.manifest)?;
        figure = figure.contender(source.contender, move || measure(&program));
    }
    Ok(figure)
}

fn crates(program: &Program) -> anyhow::Result<f64> {
    Ok(program.crates()?.len() as f64)
}

fn cold_release(program: &Program) -> anyhow::Result<f64> {
    program.crates()?;
    program.remove_artifacts()?;
    let built = program.build(Profile::Release, Incremental::Default)?;
    program.run(Profile::Release, OUTPUT)?;
    Ok(built.elapsed.as_secs_f64())
}

/// Measures the size of the release build without symbols, in units of 10^6 bytes.
fn stripped_size(program: &Program) -> anyhow::Result<f64> {
    program.crates()?;
    program.build(Profile::Release, Incremental::Default)?;
    Ok(program.stripped_size(Profile::Release)? as f64 / 1e6)
}

/// Times an incremental debug build after a change of the source.
fn touched_build(program: &Program) -> anyhow::Result<f64> {
    rebuild(program, Incremental::Default)
}

/// Times a full compilation of the program's own crate.
fn full_crate_build(program: &Program) -> anyhow::Result<f64> {
    rebuild(program, Incremental::Off)
}

fn rebuild(program: &Program, incremental: Incremental) -> anyhow::Result<f64> {
    program.crates()?;
    // The first round compiles the dependencies here.
    program.build(Profile::Debug, incremental)?;
    program.touch()?;
    let built = program.build(Profile::Debug, incremental)?;
    ensure!(
        built.crates == 1,
        "expected 1 rebuilt crate, found {}: do not edit rpc-parallel during a measurement",
        built.crates
    );
    program.run(Profile::Debug, OUTPUT)?;
    Ok(built.elapsed.as_secs_f64())
}
