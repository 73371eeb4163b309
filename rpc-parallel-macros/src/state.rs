//! `#[derive(WorkerState)]`: the state of a worker, made by `Default`.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::StateArgs;
use crate::errors::Errors;
use crate::expand;
use crate::head::DataHead;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(item) = errors.absorb(syn::parse2::<DataHead>(item)) else {
        return quote!(#errors);
    };
    let args = StateArgs::parse(&item.attrs, &mut errors);

    let state = expand::state(&args, &item);
    quote!(#state #errors)
}
