//! Rules of `#[worker]` on an impl.

use crate::errors::Errors;
use crate::head::ImplHead;
use crate::text::text;

use super::once;

/// Checks the impl of a worker trait.
pub(crate) fn implementation(head: &ImplHead, errors: &mut Errors) {
    once(&head.attrs, "worker", errors);
    for attribute in head.function_attributes() {
        errors.add(
            attribute,
            "`#[worker(..)]` on a function must be in the trait, not in the impl",
            "move the attribute to the same function of the trait",
        );
    }
    of_a_trait(head, errors);
    no_generics(head, errors);
}

/// Reports that the trait of the impl has no `#[worker]`.
pub(crate) fn trait_without_attribute(head: &ImplHead, errors: &mut Errors) {
    if let Some(trait_) = &head.trait_ {
        let name = text(&trait_.path);
        errors.add(
            &trait_.path,
            format!("worker trait `{name}` must have the attribute `#[worker]`"),
            format!("write `#[rpc_parallel::worker]` above `trait {name}`"),
        );
    }
}

fn of_a_trait(head: &ImplHead, errors: &mut Errors) {
    match &head.trait_ {
        None => errors.add(
            &head.self_ty,
            "`#[worker]` must be applied to the impl of a worker trait, not to an inherent impl",
            "declare the functions in a trait with `#[worker]`, and write `impl Trait for Type`",
        ),
        Some(trait_) => {
            if let Some(not) = trait_.negative {
                errors.add(
                    not,
                    "`#[worker]` must not be applied to a negative impl",
                    "remove the `!`, or the attribute",
                );
            }
        }
    }
}

fn no_generics(head: &ImplHead, errors: &mut Errors) {
    let sentence = "the impl of a worker trait must be for one type, without generics";
    let help = "a process is started for one type; write one impl for each type";
    if !head.generics.params.is_empty() {
        errors.add(&head.generics.params, sentence, help);
    } else if let Some(clause) = &head.generics.where_clause {
        errors.add(clause, sentence, help);
    }
}
