//! `#[test]`: a test in which workers can be started.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::EntryArgs;
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::head::{FunctionHead, Item};

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    check::test_item(&Item::of(item), &mut errors);
    if !errors.is_empty() {
        return quote!(#item #errors);
    }
    let args = EntryArgs::parse_of_test(args, &mut errors);
    let Some(function) = errors.absorb(syn::parse2::<FunctionHead>(item.clone())) else {
        return quote!(#item #errors);
    };
    check::test(&args, &function, &mut errors);

    if !errors.is_empty() {
        let function = expand::mistaken_function(&function);
        return quote!(#function #errors);
    }
    expand::test(&args, &function)
}
