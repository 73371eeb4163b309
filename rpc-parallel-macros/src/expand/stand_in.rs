//! What a wrong worker trait gets instead of a client that works: every promised name, so that
//! nothing that uses them fails a second time.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use crate::args::TraitArgs;
use crate::model::{Function, Worker};
use crate::names;
use crate::search;

use super::client;

pub(crate) fn stand_in(args: &TraitArgs, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = args.facade.private(span);
    let client = names::client_type(worker.name);
    let place = args.facade.place(span);
    let name = names::plain(worker.name);
    let connection = client::connection(&args.facade, worker);
    let mut seen = HashSet::new();
    let functions = worker.functions.iter().filter(|it| can_be_made(worker, it));
    let functions: Vec<_> = functions.filter(|it| seen.insert(names::constant(it.name))).collect();
    let body = quote_spanned!(span=> { ::core::unreachable!() });
    let keys = functions.iter().map(|it| client::key_that_is(it, &quote!(())));
    let constants = functions.iter().map(|it| client::constant(&args.facade, worker, it));
    let made = functions.iter().map(|it| client::function(&args.facade, worker, it, &body));
    quote_spanned! {span=>
        #[allow(warnings, reason = "there is an error already")]
        const _: () = {
            #(#keys)*
            impl #client {
                #(#constants)*
                #(#made)*
            }
            impl #p::WorkerClient for #client {
                #connection
                const WORKER_TRAIT: #p::WorkerTrait =
                    #p::WorkerTrait { name: #name, place: #place, functions: &[] };
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

/// Whether the client's function compiles outside of the trait.
fn can_be_made(worker: &Worker, function: &Function) -> bool {
    let mut types = function.arguments().map(|it| it.ty).chain(function.result.ty());
    worker.item.generics.params.is_empty()
        && function.item.sig.generics.params.is_empty()
        && function.result.ty().is_none_or(|it| search::word(it, "impl").is_none())
        && function.arguments().all(|it| it.owned_instead_of_unsized().is_none())
        && types.all(|it| search::word(it, "Self").is_none())
}
