//! A program of ten lines that uses all cores, from its start to its end.

use crate::figure::{FLOOR, Figure, RAYON, RPC_PARALLEL};
use crate::program::{Incremental, Profile, Program};

const RUNS: u32 = 20;
/// The sum of the squares of the numbers below a million.
const OUTPUT: &str = "333332833333500000\n";

pub(super) fn figure() -> Figure {
    Figure::new("map.program", "ms")
        .contender(
            FLOOR,
            time_program(
                include_str!("../../../templates/all_cores/floor.rs"),
                include_str!("../../../templates/all_cores/floor.toml"),
            ),
        )
        .contender(
            RPC_PARALLEL,
            time_program(
                include_str!("../../../templates/all_cores/rpc-parallel.rs"),
                include_str!("../../../templates/rpc-parallel.toml"),
            ),
        )
        .contender(
            RAYON,
            time_program(
                include_str!("../../../templates/all_cores/rayon.rs"),
                include_str!("../../../templates/all_cores/rayon.toml"),
            ),
        )
}

/// Returns the average time of a run in milliseconds. The first measurement builds the program.
fn time_program(
    main: &'static str,
    manifest: &'static str,
) -> impl FnMut() -> anyhow::Result<f64> + 'static {
    let mut built = None;
    move || {
        let program = match built.take() {
            Some(program) => program,
            None => build(main, manifest)?,
        };
        let mut milliseconds = 0.0;
        for _ in 0..RUNS {
            milliseconds += program.run(Profile::Release, OUTPUT)?.as_secs_f64() * 1e3;
        }
        built = Some(program);
        Ok(milliseconds / f64::from(RUNS))
    }
}

fn build(main: &str, manifest: &str) -> anyhow::Result<Program> {
    let program = Program::write(main, manifest)?;
    program.crates()?;
    program.build(Profile::Release, Incremental::Default)?;
    Ok(program)
}
