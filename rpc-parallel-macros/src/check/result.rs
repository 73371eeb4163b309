//! Rules of the result of a worker function.

use quote::quote;
use syn::Type;

use crate::errors::Errors;
use crate::model::{Function, FunctionKind, Returned};
use crate::pipes::{self, Kind};
use crate::search;
use crate::type_parts::ungrouped;

use super::borrow_in;

/// The result is one owned type; that of a one-way function is `()`.
pub(super) fn result(function: &Function, errors: &mut Errors) {
    let title = function.title();
    if let Some(ty) = function.result.ty()
        && function.args.one_way
        && !is_unit(ty)
    {
        return errors.add(
            ty,
            format!("one-way {title} must not have a result"),
            "the worker sends no answer to a one-way call; remove the result, or `one_way`",
        );
    }
    is_fallible(function, errors);
    let Some(ty) = function.result.ty() else { return };
    if let Some(word) = search::word(ty, "impl") {
        errors.add(
            word,
            format!("result of {title} must not be `impl Trait`"),
            "a message has one type; write that type",
        );
    } else if let Some(borrow) = borrow_in(ty, function) {
        errors.add(
            borrow,
            format!("result of {title} must be owned"),
            "the result leaves the worker's process; write an owned type such as `String` or `Vec`",
        );
    }
    if let Some(word) = search::word(ty, "Self")
        && function.kind == FunctionKind::Worker
    {
        errors.add(
            word,
            format!("result of {title} must not name `Self`"),
            "callers do not know the implementing type; write the name of a type",
        );
    }
    pipes(function, ty, errors);
}

fn is_unit(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Tuple(it) if it.elems.is_empty())
}

/// `#[worker(result)]` is used on a function whose result can be an alias of `Result`.
fn is_fallible(function: &Function, errors: &mut Errors) {
    let title = function.title();
    if function.args.result && !matches!(function.result, Returned::Fallible(_)) {
        let name = function.name;
        let wrong = function.result.ty().map_or(quote!(#name), |ty| quote!(#ty));
        errors.add(
            wrong,
            format!("{title} must return a `Result`"),
            format!(
                "`#[{}(result)]` is for aliases of `Result` with other names; remove it",
                function.kind.attribute()
            ),
        );
    }
}

/// The result holds no writer, and its pipes carry no pipes.
fn pipes(function: &Function, ty: &Type, errors: &mut Errors) {
    let title = function.title();
    if let Some((outer, inner)) = pipes::nested(ty) {
        return errors.add(
            inner.name,
            format!(
                "the `{}` in the result of {title} must not carry a `{}`",
                outer.name, inner.name
            ),
            "only arguments and results carry pipes: return a `Vec` of pipes, or one pipe per call",
        );
    }
    for writer in pipes::within(ty).iter().filter(|it| it.kind == Kind::Writer) {
        errors.add(
            writer.name,
            format!("result of {title} must not hold a `PipeWriter`"),
            "return the `Pipe` and keep the writer; `Pipe::pair()` makes both",
        );
    }
}
