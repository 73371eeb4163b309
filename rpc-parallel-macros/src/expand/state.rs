//! The impl of `WorkerState` for a type with a `Default`.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::parse_quote_spanned;

use crate::args::StateArgs;
use crate::head::DataHead;
use crate::names;

/// Writes the impl.
// Input: struct Calculator;
// Output: impl P::WorkerState for Calculator {
//     type Init = ();
//     async fn init((): ()) -> Result<Self, P::BoxError> { Ok(<Calculator as Default>::default()) }
// }
pub(crate) fn state(args: &StateArgs, item: &DataHead) -> TokenStream {
    let ident = &item.ident;
    let span = names::at(ident);
    let p = args.facade.private(span);
    let mut generics = item.generics.clone();
    if !generics.params.is_empty() {
        // A macro cannot determine which bounds the parameters need, so it bounds the whole type.
        generics.make_where_clause().predicates.push(parse_quote_spanned! {span=>
            Self: ::core::default::Default + 'static
        });
    }
    let (impl_generics, type_generics, clause) = generics.split_for_impl();
    quote_spanned! {span=>
        #[automatically_derived]
        impl #impl_generics #p::WorkerState for #ident #type_generics #clause {
            type Init = ();
            async fn init((): ()) -> ::core::result::Result<Self, #p::BoxError> {
                ::core::result::Result::Ok(
                    <#ident #type_generics as ::core::default::Default>::default()
                )
            }
        }
    }
}
