//! `#[worker]`: on a trait it declares, on an impl it registers.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::{ImplArgs, TraitArgs};
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{ImplHead, Item};
use crate::mistakes;
use crate::model;

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    match Item::of(item) {
        Item::Trait(_) => on_trait(args, item),
        Item::Impl(_) => on_impl(args, item),
        Item::Function(word) | Item::Other(word) => {
            let mut errors = Errors::default();
            errors.add(word, mistakes::worker_on_something_else());
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

fn on_impl(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = ImplArgs::parse(args, &mut errors);
    let Some(mut head) = errors.absorb(syn::parse2::<ImplHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    check::implementation(&mut head, &mut errors);

    if head.is_negative() {
        return quote!(#errors);
    }
    let registration = head.trait_.as_ref().map(|it| expand::registration(&args, &head, it));
    quote!(#head #registration #errors)
}
