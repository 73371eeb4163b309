//! `#[test]`: a test that may start workers.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::EntryArgs;
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{FunctionHead, Item};
use crate::mistakes;

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    if let Item::Trait(word) | Item::Impl(word) | Item::Other(word) = Item::of(item) {
        errors.add(word, mistakes::test_not_on_function());
        return quote!(#item #errors);
    }
    let args = EntryArgs::parse(args, "`#[rpc_parallel::test]`", &mut errors);
    let Some(function) = errors.absorb(syn::parse2::<FunctionHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    check::test(&args, &function, &mut errors);

    if !errors.is_empty() {
        let function = expand::no_start(&function);
        return quote!(#function #errors);
    }
    expand::test(&args, &function)
}
