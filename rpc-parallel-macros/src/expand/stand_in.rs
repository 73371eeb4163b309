//! The client of a trait with mistakes. It has every name that the macro promises, so that code
//! that uses these names causes no further errors.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use crate::args::TraitArgs;
use crate::model::{Function, Worker};
use crate::names;
use crate::search;

use super::client;

/// Writes the functions and impls of such a client.
pub(crate) fn stand_in(args: &TraitArgs, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = args.facade.private(span);
    let client = names::client_type(worker.name);
    let source_location = args.facade.source_location(span);
    let name = names::plain(worker.name);
    let connection = client::connection(&args.facade, worker);
    let mut seen = HashSet::new();
    let is_generic = !worker.item.generics.params.is_empty();
    let functions = worker.functions.iter().filter(|it| !is_generic && compiles(it));
    let functions: Vec<_> = functions.filter(|it| seen.insert(names::constant(it.name))).collect();
    let body = quote_spanned!(span=> { ::core::unreachable!() });
    let keys = functions.iter().map(|it| client::key_alias(it, &quote!(())));
    let constants = functions.iter().map(|it| client::constant(&args.facade, worker, it));
    let client_functions =
        functions.iter().map(|it| client::function(&args.facade, worker, it, &body));
    quote_spanned! {span=>
        #[allow(warnings, reason = "a mistake is reported")]
        const _: () = {
            #(#keys)*
            impl #client {
                #(#constants)*
                #(#client_functions)*
            }
            impl #p::WorkerClient for #client {
                #connection
                type OnHandle<__H: 'static> = #p::NoFunctions;
                const WORKER_TRAIT: #p::WorkerTrait =
                    #p::WorkerTrait { name: #name, place: #source_location, functions: &[] };
                fn from_client(client: #p::Client) -> Self {
                    Self(client)
                }
                fn client(&self) -> &#p::Client {
                    &self.0
                }
            }
            impl<__S: 'static> #p::Dispatch<__S> for #client {
                const TABLE: #p::Table<__S, Self> = &[];
            }
        };
    }
}

/// Returns whether the client's function compiles.
pub(super) fn compiles(function: &Function) -> bool {
    let mut types = function.arguments().map(|it| it.ty).chain(function.result.ty());
    function.sig.generics.params.is_empty()
        && function.sig.variadic.is_none()
        && function.result.ty().is_none_or(|it| search::word(it, "impl").is_none())
        && function.arguments().all(|it| it.owned_instead_of_unsized().is_none())
        && function.arguments().all(|it| it.borrow.is_some() || !it.is_trait_object())
        && types.all(|it| search::word(it, "Self").is_none())
}
