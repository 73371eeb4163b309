//! `#[process]`: a function that also runs in processes of its own.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::ProcessArgs;
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{FunctionHead, Item, names_last};
use crate::model::Function;

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    check::process_item(&Item::of(item), &mut errors);
    if !errors.is_empty() {
        return quote!(#item #errors);
    }
    let ProcessArgs { facade, function: args } = ProcessArgs::parse(args, &mut errors);
    let Some(mut head) = errors.absorb(syn::parse2::<FunctionHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    let function = Function::of_process(args, &head);
    check::process(&head, &function, &mut errors);

    let is_item = function.sig.receiver().is_none() && head.has_body();
    let beside = match errors.is_empty() {
        _ if !is_item => TokenStream::new(),
        true => expand::process(&facade, &head.vis, &function),
        false => expand::process_stand_in(&facade, &head.vis, &function),
    };
    // rustc would expand these, and report the mistake again.
    head.attrs.retain(|it| !names_last(it.path(), "process"));
    quote!(#head #beside #errors)
}
