//! Every kind of process function.

#![deny(warnings)]

use std::collections::HashMap;

use rpc_parallel::prelude::*;
use rpc_parallel::process::{ProcessRun, Reuse, RunError, TryProcessRun};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Private(u8);

/// Public, with private types.
#[rpc_parallel::process]
#[allow(private_interfaces)]
pub fn private(value: Private, values: &[Private]) -> Option<Private> {
    values.first().map(|it| Private(it.0 + value.0))
}

#[rpc_parallel::process]
fn nothing() {}

#[rpc_parallel::process]
async fn many(
    text: &str,
    bytes: &[u8],
    map: &HashMap<String, u8>,
    mut number: u8,
    (low, Private(high)): (u8, Private),
    _: bool,
    _unused: i128,
    r#loop: u8,
) -> Result<(u8, Vec<String>), AnyError> {
    tokio::task::yield_now().await;
    number += low + high + r#loop + bytes.len() as u8;
    Ok((number, map.keys().cloned().chain([text.to_owned()]).collect()))
}

#[rpc_parallel::process]
async fn pipes(numbers: Pipe<u64>, writer: PipeWriter<String>) -> (Pipe<u64>, usize) {
    drop(writer);
    (numbers, 1)
}

type Outcome<T> = Result<T, Private>;

#[rpc_parallel::process(result, id = "outcome", crate = rpc_parallel)]
fn outcome(x: u8) -> Outcome<u8> {
    Ok(x)
}

/// Only its `run` is used.
#[rpc_parallel::process]
fn only_run() -> u8 {
    1
}

/// Only its `reuse` is used.
#[rpc_parallel::process]
fn only_reuse() -> u8 {
    1
}

#[rpc_parallel::process]
fn r#match(__a0: u8, __scope: u8, process: u8, run: u8, call: u8) -> u8 {
    __a0 + __scope + process + run + call
}

#[cfg(unix)]
#[rpc_parallel::process]
fn conditional() -> u8 {
    1
}

#[rpc_parallel::process]
#[cfg(windows)]
fn conditional() -> u8 {
    2
}

#[deprecated = "use another"]
#[rpc_parallel::process]
fn old() -> u8 {
    3
}

#[must_use]
#[inline]
#[track_caller]
#[rpc_parallel::process]
fn with_attributes() -> u8 {
    4
}

macro_rules! function {
    ($name:ident, $ty:ty) => {
        #[rpc_parallel::process]
        fn $name(x: $ty, y: &$ty) -> ($ty, $ty) {
            (x, *y)
        }
    };
}

function!(made_by_a_macro, u16);

mod inner {
    pub(super) mod deeper {
        #[rpc_parallel::process]
        pub(in super::super) fn nested(x: u8) -> u8 {
            x
        }
    }
}

use inner::deeper::nested;

fn types_can_be_named() {
    let run: ProcessRun<u8> = nested::run(1);
    let try_run: TryProcessRun<Outcome<u8>> = outcome::run(1);
    let reuse: Reuse<nested> = nested::reuse();
    drop((run, try_run, reuse));
}

async fn errors_have_the_type_of_the_function() -> Result<u8, RunError<Private>> {
    outcome::run(1).await
}

async fn handles_have_the_name_of_the_function(nested: nested) -> Result<u8, CallError> {
    let clone: nested = nested.clone();
    clone.call(1).await
}

fn functions_are_values<F: Function<Output = u8>>(_: F) {}

#[allow(deprecated)]
fn main() {
    // A variable hides neither the function nor the type.
    let nothing = nothing();
    let () = nothing;
    drop(nothing::run());
    drop(private(Private(1), &[]));
    drop(private::run(Private(1), &[]));
    let text = String::from("a");
    let many_run =
        many::run(&text, &[1], &HashMap::new(), 1, (1, Private(2)), true, 1, 2);
    drop(text);
    drop(many_run);
    let (writer, _pipe) = Pipe::pair();
    drop(pipes::run(Pipe::from_items([1]), writer));
    drop(only_run::run());
    drop(only_reuse::reuse());
    drop(r#match::run(1, 2, 3, 4, 5));
    drop(conditional::run());
    drop(old::run());
    drop(with_attributes::run());
    drop(made_by_a_macro::run(1, &2));
    functions_are_values(nested::FUNCTION);
    drop(private::start(Private(1), &[]));
    let start: rpc_parallel::process::TryStartJob<Outcome<u8>> = outcome::start(1);
    drop(start);
    drop(errors_have_the_type_of_the_function());
    let _ = (handles_have_the_name_of_the_function, types_can_be_named);

    #[rpc_parallel::process]
    fn within_a_function(x: u8) -> u8 {
        x
    }
    drop(within_a_function::run(1));
}
