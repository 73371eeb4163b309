//! Rules of a function under `#[process]`.
//!
//! The function stays as it is written, so rustc reports what is wrong with it as a function.

use crate::errors::Errors;
use crate::head::FunctionHead;
use crate::model::Function;

use super::{argument, function, once, result};

/// Checks a process function.
pub(crate) fn process(head: &FunctionHead, function: &Function, errors: &mut Errors) {
    once(&head.attrs, "process", errors);
    if !is_free(head, function, errors) {
        return;
    }
    is_not_main(function, errors);
    function::qualifiers(function, errors);
    function::no_generics(function, errors);
    for it in function.arguments() {
        argument::attributes(function, it, errors);
        argument::argument_type(function, it, errors);
    }
    function::number_of_arguments(function, errors);
    no_context(function, errors);
    result::result(function, errors);
}

/// The function has a body and no receiver. Returns whether it does.
fn is_free(head: &FunctionHead, function: &Function, errors: &mut Errors) -> bool {
    let title = function.title();
    if let Some(receiver) = function.sig.receiver() {
        errors.add(
            receiver,
            format!("{title} must be a free function"),
            "move it out of the `impl`, and take the value that it needs as an argument; for \
             functions that share a state, declare a trait with `#[worker]`",
        );
        return false;
    }
    if !head.has_body() {
        errors.add(
            function.name,
            format!("{title} must have a body"),
            "move the function out of the trait; for functions with several implementations, \
             declare the trait with `#[worker]`",
        );
        return false;
    }
    true
}

/// The function is not the `main` of the program, which starts the processes.
fn is_not_main(function: &Function, errors: &mut Errors) {
    if function.name == "main" {
        errors.add(
            function.name,
            "`#[process]` must not be applied to `main`",
            "write `#[rpc_parallel::entry]` above `main`, and `#[rpc_parallel::process]` above the \
             functions that run in other processes",
        );
    }
}

/// The function takes no context: it is a plain function, whose callers have none.
fn no_context(function: &Function, errors: &mut Errors) {
    for context in function.contexts() {
        errors.add(
            context.ty,
            format!("{} must not take a `Context`", function.title()),
            "the function belongs to no worker; remove the argument, or declare a trait with \
             `#[worker]`",
        );
    }
}
