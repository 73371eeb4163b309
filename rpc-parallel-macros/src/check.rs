//! The rules, one function each, with the sentence and the cure of each mistake.
//!
//! Checks read the model and the heads of items, and change neither.

mod item;
mod worker_trait;
mod function;
mod argument;
mod result;
mod implementation;
mod process;
mod start;

pub(crate) use implementation::{implementation, trait_without_attribute};
pub(crate) use item::{entry_item, process_item, test_item, worker_item};
pub(crate) use process::process;
pub(crate) use start::{main, test};

use proc_macro2::TokenTree;
use syn::{Attribute, GenericParam, Generics, Type};

use crate::errors::Errors;
use crate::head::names_last;
use crate::model::{Function, Worker};
use crate::search;

/// Checks a worker trait.
pub(crate) fn worker(worker: &Worker, errors: &mut Errors) {
    once(&worker.item.attrs, "worker", errors);
    worker_trait::head(worker, errors);
    worker_trait::items_are_functions(worker, errors);
    for it in &worker.functions {
        function(it, errors);
    }
    worker_trait::constants_differ(worker, errors);
    worker_trait::ids_differ(worker, errors);
    worker_trait::contexts_agree(worker, errors);
}

fn function(function: &Function, errors: &mut Errors) {
    function::name_is_free(function, errors);
    function::qualifiers(function, errors);
    function::not_variadic(function, errors);
    function::receiver(function, errors);
    function::no_generics(function, errors);
    for it in function.arguments() {
        argument::name(function, it, errors);
        argument::attributes(function, it, errors);
        argument::argument_type(function, it, errors);
    }
    function::number_of_arguments(function, errors);
    function::contexts(function, errors);
    result::result(function, errors);
    function::flags(function, errors);
    function::no_body(function, errors);
}

/// The attribute `name` occurs once: a second one would expand the item a second time.
fn once(attrs: &[Attribute], name: &str, errors: &mut Errors) {
    for attr in attrs.iter().filter(|it| names_last(it.path(), name)) {
        errors.add(
            attr.path(),
            format!("`#[{name}]` must be used once per item"),
            "put all arguments into one attribute",
        );
    }
}

fn has_lifetimes(generics: &Generics) -> bool {
    generics.params.iter().any(is_lifetime)
}

fn is_lifetime(param: &GenericParam) -> bool {
    matches!(param, GenericParam::Lifetime(_))
}

/// Returns the first token in `ty` that makes it borrow. Returns `None` for a function with
/// lifetime parameters, because these are a mistake of their own.
fn borrow_in(ty: &Type, function: &Function) -> Option<TokenTree> {
    if has_lifetimes(&function.sig.generics) { None } else { search::borrow(ty) }
}

#[cfg(test)]
mod tests;
