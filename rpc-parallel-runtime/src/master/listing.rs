//! `RPC_PARALLEL_LIST=1`: prints the worker types of a program without running it.

use std::io::{self, Write};
use std::process;

use crate::worker::Registry;

const VARIABLE: &str = "RPC_PARALLEL_LIST";

/// Prints the table of worker types and exits, if the environment requests it.
pub(super) fn print_list_if_requested(registry: &Registry) {
    if std::env::var_os(VARIABLE).is_some_and(|it| it == "1") {
        let printed = write!(io::stdout().lock(), "{registry}");
        process::exit(i32::from(printed.is_err()));
    }
}
