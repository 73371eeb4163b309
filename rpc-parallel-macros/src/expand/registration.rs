//! The registration of a worker type, by which every process of the program finds it.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::Path;

use crate::args::ImplArgs;
use crate::head::{ImplHead, ImplTrait};
use crate::names;
use crate::text::text;

/// Writes the code that makes the type of the impl a worker type.
// Input: impl Bank for Ledger { .. }
// Output: const _: () = {
//     impl P::OneWorkerTraitPerType for Ledger {
//         type Itself = Self;
//         type Client = BankClient;
//         const WORKER_TYPE: &'static P::WorkerType = __WORKER_TYPE;
//     }
//     const __WORKER_TYPE: &P::WorkerType = &P::WorkerType::new::<Ledger>("Ledger", "Bank", ..);
//     P::register! { __WORKER_TYPE }
// };
pub(crate) fn registration(args: &ImplArgs, head: &ImplHead, trait_: &ImplTrait) -> TokenStream {
    let span = names::at(&head.self_ty);
    let p = args.facade.private(span);
    let worker_type = worker_type(args, head, trait_);
    if !head.generics.params.is_empty() {
        // `check` has reported the generics. A generic type cannot be registered.
        return worker_impl(args, head, trait_, &worker_type);
    }
    let worker_impl = worker_impl(args, head, trait_, &quote_spanned!(span=> __WORKER_TYPE));
    quote_spanned! {span=>
        const _: () = {
            #worker_impl
            const __WORKER_TYPE: &#p::WorkerType = #worker_type;
            #p::register! { __WORKER_TYPE }
        };
    }
}

/// Writes the value of the worker type.
fn worker_type(args: &ImplArgs, head: &ImplHead, trait_: &ImplTrait) -> TokenStream {
    let ty = &head.self_ty;
    let span = names::at(ty);
    let p = args.facade.private(span);
    let (type_name, trait_name) = (text(ty), text(&trait_.path));
    let location = args.facade.source_location(span);
    let id = args.id.as_ref().map(|it| quote_spanned!(span=> .with_id(#it)));
    quote_spanned!(span=> &#p::WorkerType::new::<#ty>(#type_name, #trait_name, #location) #id)
}

/// Writes the impl that links the type with its client.
fn worker_impl(
    args: &ImplArgs,
    head: &ImplHead,
    trait_: &ImplTrait,
    worker_type: &TokenStream,
) -> TokenStream {
    let ty = &head.self_ty;
    let span = names::at(ty);
    let p = args.facade.private(span);
    let (generics, _, clause) = head.generics.split_for_impl();
    let client = args.client.clone().unwrap_or_else(|| client_path(&trait_.path));
    quote_spanned! {span=>
        #[automatically_derived]
        impl #generics #p::OneWorkerTraitPerType for #ty #clause {
            type Itself = Self;
            type Client = #client;
            const WORKER_TYPE: &'static #p::WorkerType = #worker_type;
        }
    }
}

/// Returns `bank::BankClient` for `bank::Bank`.
fn client_path(worker_trait: &Path) -> Path {
    let mut path = worker_trait.clone();
    if let Some(last) = path.segments.last_mut() {
        *last = names::client_type(&last.ident).into();
    }
    path
}
