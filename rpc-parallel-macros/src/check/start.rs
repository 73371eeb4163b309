//! Rules of `main` under `#[entry]` and of functions under `#[rpc_parallel::test]`.

use quote::{ToTokens, quote};
use syn::{FnArg, PatType, Safety};

use crate::args::EntryArgs;
use crate::errors::Errors;
use crate::head::{FunctionHead, names_last};
use crate::search;
use crate::text::text;

use super::once;

/// Checks the function under `#[entry]`.
pub(crate) fn main(args: &EntryArgs, main: &FunctionHead, errors: &mut Errors) {
    if main.sig.ident != "main" {
        return not_main(&main.sig.ident, errors);
    }
    once(&main.attrs, "entry", errors);
    no_other_runtime(main, errors);
    start(args, main, errors);
    main_parameters(main, errors);
}

/// Checks the function under `#[rpc_parallel::test]`.
pub(crate) fn test(args: &EntryArgs, test: &FunctionHead, errors: &mut Errors) {
    no_other_test(test, errors);
    start(args, test, errors);
    test_parameters(test, errors);
}

pub(super) fn not_main(wrong: impl ToTokens, errors: &mut Errors) {
    errors.add(
        wrong,
        "`#[entry]` must be applied to the function `main`",
        "`#[entry]` starts the whole program; declare worker functions in a `#[worker]` trait",
    );
}

/// Attributes that start a runtime are visible only below `#[entry]`: rustc has expanded those
/// above, and `main` is a sync function with a runtime of its own, which is correct.
fn no_other_runtime(main: &FunctionHead, errors: &mut Errors) {
    for attr in main.attrs.iter().filter(|it| names_last(it.path(), "main")) {
        errors.add(
            attr.path(),
            format!("`#[entry]` must not be combined with `#[{}]`", text(attr.path())),
            "`#[entry]` starts the runtime; remove the other attribute, and set the runtime with \
             `flavor` and `threads`",
        );
    }
}

fn no_other_test(test: &FunctionHead, errors: &mut Errors) {
    for attr in test.attrs.iter().filter(|it| names_last(it.path(), "test")) {
        errors.add(
            attr.path(),
            format!("`#[rpc_parallel::test]` must not be combined with `#[{}]`", text(attr.path())),
            "`#[rpc_parallel::test]` makes the function a test; remove the other attribute",
        );
    }
}

/// The rules that `main` and tests share.
fn start(args: &EntryArgs, function: &FunctionHead, errors: &mut Errors) {
    let sig = &function.sig;
    let name = &sig.ident;
    if let Some(receiver) = sig.receiver() {
        errors.add(
            receiver,
            format!("`{name}` must be a free function"),
            "remove `self`, and the impl around the function",
        );
    }
    let safety = match &sig.safety {
        Safety::Default => None,
        safety => Some(quote!(#safety)),
    };
    let qualifiers =
        [sig.constness.map(|it| quote!(#it)), safety, sig.abi.as_ref().map(|it| quote!(#it))];
    for qualifier in qualifiers.into_iter().flatten() {
        let help = format!("remove `{qualifier}`");
        errors.add(qualifier, format!("`{name}` must be a plain `fn` or `async fn`"), help);
    }
    if sig.asyncness.is_none() {
        for argument in &args.runtime.written {
            errors.add(
                argument,
                format!("`{argument}` must be used with an async function"),
                format!(
                    "make `{name}` async, or write `worker({argument} = ..)` to set the runtimes \
                     of workers"
                ),
            );
        }
    }
}

fn main_parameters(main: &FunctionHead, errors: &mut Errors) {
    let generic =
        ("`main` must not be generic", "replace the generic parameters with concrete types");
    if !main.sig.generics.params.is_empty() {
        errors.add(&main.sig.generics.params, generic.0, generic.1);
    }
    let parameters = parameters(main);
    if let Some(second) = parameters.get(1) {
        errors.add(
            second,
            "`main` must have no parameter, or one list of the program's arguments",
            "write `fn main(args: Vec<String>)`, and parse the list in the body",
        );
    } else if let Some(word) = parameters.first().and_then(|it| search::word(&it.ty, "impl")) {
        errors.add(word, generic.0, generic.1);
    }
}

fn test_parameters(test: &FunctionHead, errors: &mut Errors) {
    let name = &test.sig.ident;
    if !test.sig.generics.params.is_empty() {
        errors.add(
            &test.sig.generics.params,
            format!("test `{name}` must not be generic"),
            "replace the generic parameters with concrete types",
        );
    }
    if let Some(first) = parameters(test).first() {
        errors.add(
            first,
            format!("test `{name}` must not have parameters"),
            "make the values in the body of the test",
        );
    }
}

fn parameters(function: &FunctionHead) -> Vec<&PatType> {
    let typed = function.sig.inputs.iter().filter_map(|it| match it {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed.collect()
}
