//! Rules of the arguments of a worker function.

use quote::quote;

use crate::errors::Errors;
use crate::model::{Argument, Borrow, Function, FunctionKind};
use crate::pipes;
use crate::search;

use super::{borrow_in, has_lifetimes};

/// An argument is a plain name.
pub(super) fn name(function: &Function, argument: &Argument, errors: &mut Errors) {
    if !argument.named {
        errors.add(
            &argument.syntax.pat,
            format!("arguments of {} must be plain names", function.title()),
            "write a name here, and the pattern in the impl",
        );
    }
}

/// An argument has no `#[cfg]`.
pub(super) fn attributes(function: &Function, argument: &Argument, errors: &mut Errors) {
    for attr in &argument.syntax.attrs {
        if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
            errors.add(
                attr.path(),
                format!("arguments of {} must not be conditional", function.title()),
                "declare the function twice, each with a `#[cfg]` of its own",
            );
        }
    }
}

/// The type of an argument is one owned type, or one behind a single `&`.
pub(super) fn argument_type(function: &Function, argument: &Argument, errors: &mut Errors) {
    let (name, ty) = (&argument.name, argument.ty);
    if let Some(borrow) = &argument.borrow {
        self::borrow(function, argument, borrow, errors);
    }
    if let Some(word) = search::word(ty, "impl") {
        errors.add(
            word,
            format!("argument `{name}` must not be `impl Trait`"),
            "a message has one type; write that type, or an enum of the possible types",
        );
    } else if argument.is_trait_object()
        && (function.kind == FunctionKind::Worker || argument.borrow.is_some())
    {
        errors.add(
            ty,
            format!("argument `{name}` must not be a trait object"),
            "a message has one type; write that type, or an enum of the possible types",
        );
    } else if let Some(borrow) = borrow_in(ty, function) {
        errors.add(
            borrow,
            format!("argument `{name}` must not borrow inside its type"),
            "only the whole argument can be borrowed; write owned types such as `String` inside",
        );
    }
    if let Some(word) = search::word(ty, "Self")
        && function.kind == FunctionKind::Worker
    {
        errors.add(
            word,
            format!("argument `{name}` must not name `Self`"),
            "callers do not know the implementing type; write the name of a type",
        );
    }
    if let Some(owned) = argument.owned_instead_of_unsized()
        && function.kind == FunctionKind::Worker
    {
        errors.add(
            ty,
            format!("argument `{name}` must have a sized type"),
            format!("write `&` before the type, or `{owned}`"),
        );
    }
    if let Some((outer, inner)) = pipes::nested(ty) {
        errors.add(
            inner.name,
            format!("the `{}` in argument `{name}` must not carry a `{}`", outer.name, inner.name),
            "only arguments and results carry pipes: take a `Vec` of pipes, or one pipe per call",
        );
    }
}

/// A borrow is a plain `&`, and not of a pipe.
fn borrow(function: &Function, argument: &Argument, borrow: &Borrow, errors: &mut Errors) {
    let name = &argument.name;
    let Borrow { and, lifetime, mutable } = borrow;
    if let Some(pipe) = pipes::within(argument.ty).first() {
        return errors.add(
            quote!(#and #lifetime #mutable),
            format!("argument `{name}` must not borrow a `{}`", pipe.name),
            "a pipe moves to the worker; take it by value",
        );
    }
    if let Some(mutable) = mutable {
        errors.add(
            mutable,
            format!("argument `{name}` must not be borrowed as `&mut`"),
            "the worker changes a copy; take the argument by value and return the changed value",
        );
    }
    if let Some(lifetime) = lifetime
        && lifetime.ident != "_"
        && !has_lifetimes(&function.sig.generics)
    {
        errors.add(
            lifetime,
            format!("argument `{name}` must be borrowed without a lifetime"),
            "write `&` alone; the worker owns the value during the call",
        );
    }
}
