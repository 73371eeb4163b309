//! What makes a type startable as a worker, and known to every process of the program.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::Path;

use crate::args::ImplArgs;
use crate::head::{ImplHead, ImplTrait};
use crate::names;
use crate::text::text;

// Input: impl Bank for Ledger { .. }
// Output: impl P::OneWorkerTraitPerType for Ledger {
//     type Client = BankClient;
//     const WORKER_TYPE: &'static P::WorkerType = &P::WorkerType::new::<Self>("Ledger", "Bank", ..);
// }
// P::register! { <Ledger as P::OneWorkerTraitPerType>::WORKER_TYPE }
pub(crate) fn registration(args: &ImplArgs, head: &ImplHead, trait_: &ImplTrait) -> TokenStream {
    let ty = &head.self_ty;
    let span = names::at(ty);
    let p = args.facade.private(span);
    let (generics, _, clause) = head.generics.split_for_impl();
    let client = args.client.clone().unwrap_or_else(|| client_path(&trait_.path));
    let (type_name, trait_name) = (text(ty), text(&trait_.path));
    let place = args.facade.place(span);
    let id = args.id.as_ref().map(|it| quote_spanned!(span=> .with_id(#it)));
    let trait_span = names::at(&trait_.path);
    let trait_p = args.facade.private(trait_span);
    let one_per_type = quote_spanned!(trait_span=> #trait_p::OneWorkerTraitPerType);
    // A generic impl, which is a mistake, has no type that could be registered.
    let register = head.generics.params.is_empty().then(|| {
        quote_spanned!(span=> #p::register! { <#ty as #p::OneWorkerTraitPerType>::WORKER_TYPE })
    });
    quote_spanned! {span=>
        #[automatically_derived]
        impl #generics #one_per_type for #ty #clause {
            type Client = #client;
            const WORKER_TYPE: &'static #p::WorkerType =
                &#p::WorkerType::new::<#ty>(#type_name, #trait_name, #place) #id;
        }
        #register
    }
}

/// `bank::BankClient`, for `bank::Bank`.
fn client_path(worker_trait: &Path) -> Path {
    let mut path = worker_trait.clone();
    if let Some(last) = path.segments.last_mut() {
        *last = names::client_type(&last.ident).into();
    }
    path
}
