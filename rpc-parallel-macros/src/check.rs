//! The rules, one function each: of worker traits and their impls, of `main`, and of tests.

use std::collections::HashMap;

use proc_macro2::TokenTree;
use quote::quote;
use syn::{
    Attribute, FnArg, GenericParam, Generics, PatType, ReceiverKind, Safety, TraitItem, Type,
};

use crate::args::EntryArgs;
use crate::errors::Errors;
use crate::head::{FunctionHead, ImplHead, names_last};
use crate::mistakes;
use crate::model::{Argument, Borrow, Context, Function, Returned, Worker, ungrouped};
use crate::names;
use crate::pipes::{self, Kind};
use crate::search;
use crate::text::text;

/// How many arguments the runtime's tuples have room for.
const MOST_ARGUMENTS: usize = 16;

pub(crate) fn worker(worker: &Worker, errors: &mut Errors) {
    once(&worker.item.attrs, "worker", errors);
    trait_head(worker, errors);
    items_are_functions(worker, errors);
    for it in &worker.functions {
        function(it, errors);
    }
    constants_differ(worker, errors);
    ids_differ(worker, errors);
    contexts_agree(worker, errors);
}

fn function(function: &Function, errors: &mut Errors) {
    name_is_free(function, errors);
    qualifiers(function, errors);
    receiver(function, errors);
    no_generics(function, errors);
    for it in function.arguments() {
        argument_syntax(function, it, errors);
        argument_type(function, it, errors);
    }
    number_of_arguments(function, errors);
    contexts(function, errors);
    result(function, errors);
    flags(function, errors);
    no_body(function, errors);
}

/// Reports what is wrong with `#[worker]` on an impl, and takes off what may not stand there.
pub(crate) fn implementation(head: &mut ImplHead, errors: &mut Errors) {
    once(&head.attrs, "worker", errors);
    for attribute in head.take_function_attributes() {
        errors.add(attribute, mistakes::attribute_on_impl_function());
    }
    match &head.trait_ {
        None => errors.add(&head.self_ty, mistakes::inherent_impl()),
        Some(trait_) => {
            if let Some(not) = trait_.negative {
                errors.add(not, mistakes::negative_impl());
            }
        }
    }
    if !head.generics.params.is_empty() {
        errors.add(&head.generics.params, mistakes::impl_generic());
    } else if let Some(clause) = &head.generics.where_clause {
        errors.add(clause, mistakes::impl_generic());
    }
}

pub(crate) fn main(args: &EntryArgs, main: &FunctionHead, errors: &mut Errors) {
    let name = &main.sig.ident;
    if name != "main" {
        return errors.add(name, mistakes::entry_not_on_main());
    }
    once(&main.attrs, "entry", errors);
    no_other_runtime(main, errors);
    start(args, main, errors);
    if !main.sig.generics.params.is_empty() {
        errors.add(&main.sig.generics.params, mistakes::main_generic());
    }
    let parameters = parameters(main);
    if let Some(second) = parameters.get(1) {
        errors.add(second, mistakes::main_with_more_than_arguments());
    } else if let Some(word) = parameters.first().and_then(|it| search::word(&it.ty, "impl")) {
        errors.add(word, mistakes::main_generic());
    }
}

pub(crate) fn test(args: &EntryArgs, test: &FunctionHead, errors: &mut Errors) {
    let name = &test.sig.ident;
    for attr in test.attrs.iter().filter(|it| names_last(it.path(), "test")) {
        errors.add(attr.path(), mistakes::test_with_other_test(&text(attr.path())));
    }
    start(args, test, errors);
    if !test.sig.generics.params.is_empty() {
        errors.add(&test.sig.generics.params, mistakes::test_generic(name));
    }
    if let Some(first) = parameters(test).first() {
        errors.add(first, mistakes::test_with_arguments(name));
    }
}

/// What `main` and tests have in common.
fn start(args: &EntryArgs, function: &FunctionHead, errors: &mut Errors) {
    let sig = &function.sig;
    if let Some(receiver) = sig.receiver() {
        errors.add(receiver, mistakes::start_with_self(&sig.ident));
    }
    let safety = match &sig.safety {
        Safety::Default => None,
        safety => Some(quote!(#safety)),
    };
    let words =
        [sig.constness.map(|it| quote!(#it)), safety, sig.abi.as_ref().map(|it| quote!(#it))];
    for word in words.into_iter().flatten() {
        let mistake = mistakes::start_qualified(&sig.ident, &word.to_string());
        errors.add(word, mistake);
    }
    if sig.asyncness.is_none() {
        for argument in &args.runtime.written {
            errors.add(argument, mistakes::runtime_of_sync_function(&sig.ident, argument));
        }
    }
}

fn no_other_runtime(main: &FunctionHead, errors: &mut Errors) {
    for attr in main.attrs.iter().filter(|it| names_last(it.path(), "main")) {
        errors.add(attr.path(), mistakes::entry_with_other_runtime(&text(attr.path())));
    }
    if main.was_made_by_tokio() {
        errors.add(&main.sig.ident, mistakes::entry_with_other_runtime("tokio::main"));
    }
}

fn parameters(function: &FunctionHead) -> Vec<&PatType> {
    let typed = function.sig.inputs.iter().filter_map(|it| match it {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed.collect()
}

/// Another one of our attributes would expand the item a second time.
pub(crate) fn once(attrs: &[Attribute], name: &str, errors: &mut Errors) {
    for attr in attrs.iter().filter(|it| names_last(it.path(), name)) {
        errors.add(attr.path(), mistakes::attribute_twice(name));
    }
}

fn trait_head(worker: &Worker, errors: &mut Errors) {
    let item = worker.item;
    if let Some(word) = item.unsafety {
        errors.add(word, mistakes::trait_unsafe(worker.name));
    }
    if let Some(word) = item.modifiers.auto_token {
        errors.add(word, mistakes::trait_auto(worker.name));
    }
    if !item.generics.params.is_empty() {
        errors.add(&item.generics.params, mistakes::trait_generic(worker.name));
    } else if let Some(clause) = &item.generics.where_clause {
        errors.add(clause, mistakes::trait_where_clause(worker.name));
    }
}

fn items_are_functions(worker: &Worker, errors: &mut Errors) {
    for item in &worker.item.items {
        match item {
            TraitItem::Fn(_) => {}
            TraitItem::Type(it) => errors.add(&it.ident, mistakes::associated_type(worker.name)),
            TraitItem::Const(it) => errors.add(&it.ident, mistakes::associated_const(worker.name)),
            TraitItem::Macro(it) => errors.add(&it.mac.path, mistakes::item_in_trait(worker.name)),
            other => errors.add(other, mistakes::item_in_trait(worker.name)),
        }
    }
}

fn name_is_free(function: &Function, errors: &mut Errors) {
    if names::TAKEN_FUNCTIONS.iter().any(|it| function.name == it) {
        errors.add(function.name, mistakes::name_taken(function.name));
    }
}

fn qualifiers(function: &Function, errors: &mut Errors) {
    let sig = &function.item.sig;
    if let Some(word) = sig.constness {
        errors.add(word, mistakes::function_const(function.name));
    }
    if let Safety::Safe(_) | Safety::Unsafe(_) = sig.safety {
        errors.add(&sig.safety, mistakes::function_unsafe(function.name));
    }
    if let Some(abi) = &sig.abi {
        errors.add(abi, mistakes::function_extern(function.name));
    }
    if let Some(variadic) = &sig.variadic {
        errors.add(variadic.dots, mistakes::function_variadic(function.name));
    }
}

fn receiver(function: &Function, errors: &mut Errors) {
    let Some(receiver) = function.item.sig.receiver() else {
        return errors.add(function.name, mistakes::receiver_missing(function.name));
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => {}
        ReceiverKind::Reference(_, _, Some(_)) => {
            errors.add(receiver, mistakes::receiver_not_shared(function.name));
        }
        ReceiverKind::Typed(_, ty) if is_shared_self(ty) => {}
        _ => errors.add(receiver, mistakes::receiver_owned(function.name)),
    }
}

fn is_shared_self(ty: &Type) -> bool {
    matches!(text(ty).as_str(), "&Self")
}

fn no_generics(function: &Function, errors: &mut Errors) {
    let generics = &function.item.sig.generics;
    let lifetimes = generics.params.iter().filter(|it| is_lifetime(it));
    let lifetimes = quote!(#(#lifetimes),*);
    let types = generics.params.iter().filter(|it| !is_lifetime(it));
    let types = quote!(#(#types),*);
    if !types.is_empty() {
        errors.add(types, mistakes::function_generic(function.name));
    } else if !lifetimes.is_empty() {
        errors.add(lifetimes, mistakes::function_lifetime(function.name));
    } else if let Some(clause) = &generics.where_clause {
        errors.add(clause, mistakes::function_where_clause(function.name));
    }
}

fn is_lifetime(param: &GenericParam) -> bool {
    matches!(param, GenericParam::Lifetime(_))
}

fn argument_syntax(function: &Function, argument: &Argument, errors: &mut Errors) {
    if !argument.named {
        errors.add(&argument.syntax.pat, mistakes::argument_pattern(function.name));
    }
    for attr in &argument.syntax.attrs {
        if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
            errors.add(attr.path(), mistakes::argument_conditional(function.name));
        }
    }
}

fn argument_type(function: &Function, argument: &Argument, errors: &mut Errors) {
    let name = &argument.name;
    if let Some(borrow) = &argument.borrow {
        argument_borrow(function, argument, borrow, errors);
    }
    if let Some(word) = search::word(argument.ty, "impl") {
        errors.add(word, mistakes::argument_impl_trait(name));
    } else if let Some(borrow) = borrow_in(argument.ty, function) {
        errors.add(borrow, mistakes::argument_borrows(name));
    }
    if let Some(word) = search::word(argument.ty, "Self") {
        errors.add(word, mistakes::argument_self_type(name));
    }
    if let Some(owned) = argument.owned_instead_of_unsized() {
        errors.add(argument.ty, mistakes::argument_unsized(name, owned));
    }
}

fn argument_borrow(function: &Function, argument: &Argument, it: &Borrow, errors: &mut Errors) {
    let name = &argument.name;
    let Borrow { and, lifetime, mutable } = it;
    if let Some(pipe) = pipes::within(argument.ty).first() {
        let mistake = mistakes::argument_borrows_pipe(name, pipe.name);
        return errors.add(quote!(#and #lifetime #mutable), mistake);
    }
    if let Some(mutable) = mutable {
        errors.add(mutable, mistakes::argument_mutable(name));
    }
    if let Some(lifetime) = lifetime
        && lifetime.ident != "_"
        && !has_lifetimes(&function.item.sig.generics)
    {
        errors.add(lifetime, mistakes::argument_lifetime(name));
    }
}

fn number_of_arguments(function: &Function, errors: &mut Errors) {
    if let Some(argument) = function.arguments().nth(MOST_ARGUMENTS) {
        errors.add(&argument.syntax.pat, mistakes::too_many_arguments(function.name));
    }
}

fn contexts(function: &Function, errors: &mut Errors) {
    if let Some(second) = function.contexts().nth(1) {
        errors.add(second.ty, mistakes::context_twice(function.name));
    }
    for context in function.contexts() {
        if !context.is_ours() {
            errors.add(context.ty, mistakes::context_foreign(function.name));
        } else if let Some(mutable) = context.mutable {
            errors.add(mutable, mistakes::context_mutable(function.name));
        }
    }
}

fn result(function: &Function, errors: &mut Errors) {
    let name = function.name;
    if let Some(ty) = function.result.ty()
        && function.args.one_way
        && !is_unit(ty)
    {
        return errors.add(ty, mistakes::result_of_one_way(name));
    }
    let fallible = matches!(function.result, Returned::Fallible(_));
    if function.args.result && !fallible {
        let written = function.result.ty().map_or(quote!(#name), |ty| quote!(#ty));
        errors.add(written, mistakes::result_is_no_result(name));
    }
    let Some(ty) = function.result.ty() else { return };
    if let Some(word) = search::word(ty, "impl") {
        errors.add(word, mistakes::result_impl_trait(name));
    } else if let Some(borrow) = borrow_in(ty, function) {
        errors.add(borrow, mistakes::result_borrows(name));
    }
    if let Some(word) = search::word(ty, "Self") {
        errors.add(word, mistakes::result_self_type(name));
    }
    for writer in pipes::within(ty).iter().filter(|it| it.kind == Kind::Writer) {
        errors.add(writer.name, mistakes::result_holds_writer(name));
    }
}

fn is_unit(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Tuple(it) if it.elems.is_empty())
}

fn flags(function: &Function, errors: &mut Errors) {
    if let Some(no_cancel) = &function.args.no_cancel
        && function.args.one_way
    {
        errors.add(no_cancel, mistakes::no_cancel_on_one_way());
    }
}

fn no_body(function: &Function, errors: &mut Errors) {
    if let Some(body) = &function.item.default {
        errors.add(body, mistakes::default_body(function.name));
    }
}

fn constants_differ(worker: &Worker, errors: &mut Errors) {
    let mut seen = HashMap::new();
    for function in &worker.functions {
        let constant = names::constant(function.name);
        let Some(other) = seen.insert(constant.to_string(), function) else { continue };
        if function.name != other.name {
            let mistake = mistakes::constants_clash(function.name, other.name, &constant);
            errors.add(function.name, mistake);
        }
    }
}

fn ids_differ(worker: &Worker, errors: &mut Errors) {
    let mut seen = HashMap::new();
    for function in &worker.functions {
        let Some(id) = &function.args.id else { continue };
        let Some(other) = seen.insert(id.value(), function) else { continue };
        if !(function.is_conditional() && other.is_conditional()) {
            let mistake = mistakes::id_twice(function.name, other.name, &id.value());
            errors.add(id, mistake);
        }
    }
}

fn contexts_agree(worker: &Worker, errors: &mut Errors) {
    let mut contexts = worker.functions.iter().filter_map(|it| it.contexts().next());
    let Some(first) = contexts.next() else { return };
    let written = |context: &Context| text(context.ty);
    for other in contexts.filter(|it| written(it) != written(first)) {
        let mistake = mistakes::contexts_differ(worker.name, &written(first), &written(other));
        errors.add(other.ty, mistake);
    }
}

fn has_lifetimes(generics: &Generics) -> bool {
    generics.params.iter().any(is_lifetime)
}

/// What in `ty` borrows, unless lifetime parameters are the mistake already.
fn borrow_in(ty: &Type, function: &Function) -> Option<TokenTree> {
    if has_lifetimes(&function.item.sig.generics) { None } else { search::borrow(ty) }
}

#[cfg(test)]
mod tests;
