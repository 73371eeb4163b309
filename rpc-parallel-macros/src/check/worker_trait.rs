//! Rules of a worker trait as a whole.

use std::collections::HashMap;

use syn::TraitItem;

use crate::errors::Errors;
use crate::model::{Context, Worker};
use crate::names;
use crate::text::text;

/// The trait is safe and has no `auto`, no generics and no where clause.
pub(super) fn head(worker: &Worker, errors: &mut Errors) {
    let (item, name) = (worker.item, worker.name);
    if let Some(word) = item.unsafety {
        errors.add(
            word,
            format!("worker trait `{name}` must be safe"),
            "callers in other processes cannot uphold a safety contract; remove `unsafe`",
        );
    }
    if let Some(word) = item.modifiers.auto_token {
        errors.add(
            word,
            format!("worker trait `{name}` must not be an auto trait"),
            "remove `auto`",
        );
    }
    if !item.generics.params.is_empty() {
        errors.add(
            &item.generics.params,
            format!("worker trait `{name}` must not be generic"),
            "the ids of worker functions are computed from fixed types; write one trait for each \
             type",
        );
    } else if let Some(clause) = &item.generics.where_clause {
        errors.add(
            clause,
            format!("worker trait `{name}` must not have a where clause"),
            "write the bounds on `Self` as supertraits, after a colon",
        );
    }
}

/// The trait has only functions.
pub(super) fn items_are_functions(worker: &Worker, errors: &mut Errors) {
    let name = worker.name;
    for item in &worker.item.items {
        match item {
            TraitItem::Fn(_) => {}
            TraitItem::Type(it) => errors.add(
                &it.ident,
                format!("worker trait `{name}` must not have associated types"),
                "clients do not know the implementing type; write one type in the functions",
            ),
            TraitItem::Const(it) => errors.add(
                &it.ident,
                format!("worker trait `{name}` must not have associated constants"),
                "write a function: its callers are in other processes",
            ),
            TraitItem::Macro(it) => not_a_function(&it.mac.path, worker, errors),
            other => not_a_function(other, worker, errors),
        }
    }
}

fn not_a_function(wrong: impl quote::ToTokens, worker: &Worker, errors: &mut Errors) {
    errors.add(
        wrong,
        format!("worker trait `{}` must consist of functions", worker.name),
        "write the functions out; `#[worker]` runs before the macros inside the trait",
    );
}

/// The client's constants have different names.
pub(super) fn constants_differ(worker: &Worker, errors: &mut Errors) {
    let mut seen = HashMap::new();
    for function in &worker.functions {
        let name = function.name;
        let constant = names::constant(name);
        let Some(other) = seen.insert(constant.to_string(), function) else { continue };
        // rustc reports two functions of one name.
        if *name != *other.name {
            errors.add(
                name,
                format!(
                    "worker functions `{}` and `{name}` must differ in more than case",
                    other.name
                ),
                format!("both would have the client's constant `{constant}`; rename one"),
            );
        }
    }
}

/// Ids that are given differ.
pub(super) fn ids_differ(worker: &Worker, errors: &mut Errors) {
    let mut seen = HashMap::new();
    for function in &worker.functions {
        let Some(id) = &function.args.id else { continue };
        let Some(other) = seen.insert(id.value(), function) else { continue };
        // `#[cfg]` may choose one of the two.
        if !(function.is_conditional() && other.is_conditional()) {
            let (one, other) = (other.name, function.name);
            errors.add(
                id,
                format!("worker functions `{one}` and `{other}` must have different ids"),
                format!("both have `id = \"{}\"`; change one", id.value()),
            );
        }
    }
}

/// All functions that take a context take the same one, because a connection has one state.
pub(super) fn contexts_agree(worker: &Worker, errors: &mut Errors) {
    let mut contexts = worker.functions.iter().filter_map(|it| it.contexts().next());
    let Some(first) = contexts.next() else { return };
    let written = |context: &Context| text(context.ty);
    for other in contexts.filter(|it| written(it) != written(first)) {
        errors.add(
            other.ty,
            format!("worker trait `{}` must have one context type", worker.name),
            format!(
                "a connection has one state; replace `{}` or `{}`",
                written(first),
                written(other)
            ),
        );
    }
}
