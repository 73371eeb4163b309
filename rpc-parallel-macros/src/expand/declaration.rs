//! The user's trait, in which each `async fn` became a `fn` that returns a future which is `Send`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{Block, FnArg, ItemTrait, ReturnType, Signature, TraitItem, TraitItemFn, Type};

use crate::head::names_last;
use crate::model::Worker;
use crate::names;

/// The trait itself.
// Input: async fn deposit(&self, amount: u64) -> u64;
// Output: fn deposit(&self, amount: u64) -> impl Future<Output = u64> + Send;
pub(crate) fn declaration(worker: &Worker) -> TokenStream {
    let mut item: ItemTrait = worker.item.clone();
    item.attrs.retain(|it| !names_last(it.path(), "worker"));
    // A mistake that is reported already, and that the compiler would report again.
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
        without_what_bodies_need(&mut function.sig);
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
    if let Some(body) = &mut function.default {
        *body = in_a_future(body);
    }
}

/// Takes off what the compiler would report again after us.
fn without_what_bodies_need(sig: &mut Signature) {
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

fn in_a_future(body: &Block) -> Block {
    let span = names::at(&body);
    let future = syn::Expr::Verbatim(quote_spanned!(span=> async move #body));
    Block { brace_token: body.brace_token, stmts: vec![syn::Stmt::Expr(future, None)] }
}
