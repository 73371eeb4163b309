//! `#[entry]`: the `main` of masters and workers.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::EntryArgs;
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{FunctionHead, Item};

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    check::entry_item(&Item::of(item), &mut errors);
    if !errors.is_empty() {
        return quote!(#item #errors);
    }
    let args = EntryArgs::parse(args, &mut errors);
    let Some(main) = errors.absorb(syn::parse2::<FunctionHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    check::main(&args, &main, &mut errors);

    if !errors.is_empty() {
        let main = expand::mistaken_function(&main);
        return quote!(#main #errors);
    }
    expand::entry(&args, &main)
}
