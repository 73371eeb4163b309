//! Rules of a worker function: name, qualifiers, receiver, generics, contexts and body.

use quote::quote;
use syn::{ReceiverKind, Safety, Type};

use crate::errors::Errors;
use crate::model::Function;
use crate::names;
use crate::text::text;

use super::is_lifetime;

/// The length of the longest tuple that implements the runtime's `Arguments`.
const MAX_ARGUMENTS: usize = 16;

/// The name is not that of a function that every client has.
pub(super) fn name_is_free(function: &Function, errors: &mut Errors) {
    let name = names::plain(function.name);
    if names::RESERVED_FUNCTIONS.contains(&name.as_str()) {
        errors.add(
            function.name,
            format!("worker function `{name}` must have a name that clients do not use"),
            format!("every client has a function `{name}`; choose another name"),
        );
    }
}

/// The function has no `const`, `unsafe`, `safe` or `extern`.
pub(super) fn qualifiers(function: &Function, errors: &mut Errors) {
    let (sig, title) = (function.sig, function.title());
    if let Some(word) = sig.constness {
        errors.add(
            word,
            format!("{title} must not be `const`"),
            "the function runs in another process; remove `const`",
        );
    }
    if let Safety::Safe(_) | Safety::Unsafe(_) = sig.safety {
        errors.add(
            &sig.safety,
            format!("{title} must be safe"),
            "callers in other processes cannot uphold a safety contract; remove `unsafe`",
        );
    }
    if let Some(abi) = &sig.abi {
        errors.add(
            abi,
            format!("{title} must have the Rust ABI"),
            "callers send a message instead of calling a symbol; remove `extern`",
        );
    }
}

/// The function is not variadic.
pub(super) fn not_variadic(function: &Function, errors: &mut Errors) {
    if let Some(variadic) = &function.sig.variadic {
        errors.add(
            variadic.dots,
            format!("{} must have a fixed number of arguments", function.title()),
            "take a `Vec` or a slice instead of `...`",
        );
    }
}

/// The receiver is `&self`.
pub(super) fn receiver(function: &Function, errors: &mut Errors) {
    let sentence = format!("{} must take `&self`", function.title());
    let Some(receiver) = function.sig.receiver() else {
        let help = "write `&self` as the first parameter; a function that needs no worker state \
                    can be an ordinary function";
        return errors.add(function.name, sentence, help);
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => {}
        ReceiverKind::Reference(_, _, Some(_)) => {
            errors.add(
                receiver,
                sentence,
                "calls run concurrently; put changing state behind a lock",
            );
        }
        ReceiverKind::Typed(_, ty) if is_shared_self(ty) => {}
        _ => errors.add(receiver, sentence, "all calls share the worker state; write `&self`"),
    }
}

fn is_shared_self(ty: &Type) -> bool {
    text(ty) == "&Self"
}

/// The function has no generic parameters and no where clause.
pub(super) fn no_generics(function: &Function, errors: &mut Errors) {
    let (generics, title) = (&function.sig.generics, function.title());
    let lifetimes = generics.params.iter().filter(|it| is_lifetime(it));
    let lifetimes = quote!(#(#lifetimes),*);
    let types = generics.params.iter().filter(|it| !is_lifetime(it));
    let types = quote!(#(#types),*);
    if !types.is_empty() {
        errors.add(
            types,
            format!("{title} must not be generic"),
            "a message has one type; write that type, or an enum of the possible types",
        );
    } else if !lifetimes.is_empty() {
        errors.add(
            lifetimes,
            format!("{title} must not have lifetime parameters"),
            "write `&` without a lifetime; the worker gets a copy of the caller's value",
        );
    } else if let Some(clause) = &generics.where_clause {
        errors.add(
            clause,
            format!("{title} must not have a where clause"),
            "the function is not generic, so the clause bounds nothing; remove it",
        );
    }
}

/// The arguments fit into the runtime's tuples.
pub(super) fn number_of_arguments(function: &Function, errors: &mut Errors) {
    if let Some(argument) = function.arguments().nth(MAX_ARGUMENTS) {
        errors.add(
            &argument.syntax.pat,
            format!("{} must have at most {MAX_ARGUMENTS} arguments", function.title()),
            "put the arguments into a struct",
        );
    }
}

/// There is at most one context, of our type, borrowed as `&`.
pub(super) fn contexts(function: &Function, errors: &mut Errors) {
    let title = function.title();
    if let Some(second) = function.contexts().nth(1) {
        errors.add(
            second.ty,
            format!("{title} must have one context"),
            "a call belongs to one connection; remove one context",
        );
    }
    for context in function.contexts() {
        if !context.is_ours() {
            errors.add(
                context.ty,
                format!("context of {title} must be an `rpc_parallel::Context`"),
                "import `rpc_parallel::Context`, which has a type parameter and no lifetime",
            );
        } else if let Some(mutable) = context.mutable {
            errors.add(
                mutable,
                format!("context of {title} must be borrowed as `&`"),
                "calls of one connection share its state; put changing state behind a lock",
            );
        }
    }
}

/// `no_cancel` and `one_way` exclude each other.
pub(super) fn flags(function: &Function, errors: &mut Errors) {
    if let Some(no_cancel) = &function.args.no_cancel
        && function.args.one_way
    {
        errors.add(
            no_cancel,
            "`no_cancel` must not be combined with `one_way`",
            "a one-way call cannot be cancelled; remove `no_cancel`",
        );
    }
}

/// The function has no default body.
pub(super) fn no_body(function: &Function, errors: &mut Errors) {
    if let Some(body) = &function.default {
        errors.add(
            body,
            format!("{} must not have a body in the trait", function.title()),
            "end the declaration with `;` and write the body in the impl",
        );
    }
}
