//! The user's trait, with a `fn` that returns a `Send` future for each `async fn`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{
    Block, FnArg, ItemTrait, ReturnType, Signature, TraitItem, TraitItemFn, Type,
    parse_quote_spanned,
};

use crate::head::names_last;
use crate::model::Worker;
use crate::names;

/// Writes the trait.
// Input: async fn deposit(&self, amount: u64) -> u64;
// Output: fn deposit(&self, amount: u64) -> impl Future<Output = u64> + Send where Self: Sync;
pub(crate) fn declaration(worker: &Worker) -> TokenStream {
    let mut item: ItemTrait = worker.item.clone();
    item.attrs.retain(|it| !names_last(it.path(), "worker"));
    // `check` has reported this mistake, and rustc would report it again.
    item.modifiers.auto_token = None;
    for function in &mut item.items {
        if let TraitItem::Fn(function) = function {
            rewrite(function);
        }
    }
    item.into_token_stream()
}

fn rewrite(function: &mut TraitItemFn) {
    function.attrs.retain(|it| !names_last(it.path(), "worker"));
    if function.default.is_none() {
        remove_reported(&mut function.sig);
    }
    let Some(async_token) = function.sig.asyncness.take() else { return };
    let span = names::at(&async_token);
    let output = match &function.sig.output {
        ReturnType::Default => quote_spanned!(span=> ()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    let future = quote_spanned! {span=>
        impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    let arrow = syn::Token![->](span);
    function.sig.output = ReturnType::Type(arrow, Box::new(Type::Verbatim(future)));
    // The future borrows the state, so it is `Send` only if the state is `Sync`. With this clause
    // the impl can assume `Sync`. A state that is not `Sync` is then one error, at the impl's type,
    // and not one more at each function.
    let sync = parse_quote_spanned!(span=> Self: ::core::marker::Sync);
    function.sig.generics.make_where_clause().predicates.push(sync);
    if let Some(body) = &mut function.default {
        *body = async_block(body);
    }
}

/// Removes the parts of a signature that `check` has reported, and that rustc would report again.
fn remove_reported(sig: &mut Signature) {
    sig.constness = None;
    sig.variadic = None;
    for input in &mut sig.inputs {
        let FnArg::Typed(typed) = input else { continue };
        let plain = matches!(&*typed.pat, syn::Pat::Ident(it)
            if it.by_ref.is_none() && it.mutability.is_none() && it.subpat.is_none());
        if !plain {
            let span = names::at(&typed.pat);
            *typed.pat = syn::Pat::Verbatim(quote_spanned!(span=> _));
        }
    }
}

/// Wraps the body of an `async fn`, which is a mistake, in a future, so that its type stays
/// correct.
fn async_block(body: &Block) -> Block {
    let span = names::at(&body);
    let future = syn::Expr::Verbatim(quote_spanned!(span=> async move #body));
    Block { brace_token: body.brace_token, stmts: vec![syn::Stmt::Expr(future, None)] }
}
