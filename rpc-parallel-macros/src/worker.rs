//! `#[worker]`: declares a worker trait, or registers the impl of one.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::{ImplArgs, TraitArgs};
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{ImplHead, Item};
use crate::model;
use crate::source;

/// Expands the attribute. `source` returns the text of the file in which the item is written, if
/// there is one.
pub(crate) fn expand(
    args: TokenStream,
    item: &TokenStream,
    source: impl FnOnce() -> Option<String>,
) -> TokenStream {
    let kind = Item::of(item);
    match &kind {
        Item::Trait(_) => on_trait(args, item),
        Item::Impl(_) => on_impl(args, item, source),
        Item::Function(_) | Item::Other(_) => {
            let mut errors = Errors::default();
            check::worker_item(&kind, &mut errors);
            quote!(#item #errors)
        }
    }
}

fn on_trait(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = TraitArgs::parse(args, &mut errors);
    let Some(item) = errors.absorb(syn::parse2::<syn::ItemTrait>(item.clone())) else {
        return quote!(#item #errors);
    };
    let worker = model::Worker::lower(&item, &mut errors);
    check::worker(&worker, &mut errors);

    let declaration = expand::declaration(&worker);
    let client_type = expand::client_type(&args, &worker);
    if !errors.is_empty() {
        let stand_in = expand::stand_in(&args, &worker);
        return quote!(#declaration #client_type #stand_in #errors);
    }
    let client = expand::client(&args, &worker);
    quote!(#declaration #client_type #client)
}

fn on_impl(
    args: TokenStream,
    item: &TokenStream,
    source: impl FnOnce() -> Option<String>,
) -> TokenStream {
    let mut errors = Errors::default();
    let args = ImplArgs::parse(args, &mut errors);
    let Some(head) = errors.absorb(syn::parse2::<ImplHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    check::implementation(&head, &mut errors);

    if head.is_negative() {
        // rustc would report the impl, too.
        return quote!(#errors);
    }
    let forgotten = match args.client {
        None => source().and_then(|source| source::trait_without_attribute(&head, &source)),
        Some(_) => None,
    };
    if forgotten.is_some() {
        check::trait_without_attribute(&head, &mut errors);
    }

    let stand_in = forgotten.map(|item| client_stand_in(&args, &item));
    let registration = head.trait_.as_ref().map(|it| expand::registration(&args, &head, it));
    quote!(#head #registration #stand_in #errors)
}

/// Writes the client of a trait without `#[worker]`, so that code that uses the client causes no
/// further errors.
fn client_stand_in(args: &ImplArgs, item: &syn::ItemTrait) -> TokenStream {
    let args = TraitArgs { facade: args.facade.clone() };
    let worker = model::Worker::lower(item, &mut Errors::default());
    let client_type = expand::client_type(&args, &worker);
    let stand_in = expand::stand_in(&args, &worker);
    quote!(#client_type #stand_in)
}
