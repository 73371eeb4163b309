//! Writes the generated code.
//!
//! Expansion does not fail and does not check: a trait with mistakes gets a stand-in for its
//! client. Comments above the functions show their input and output; `P` is the facade's
//! `__private`.

mod declaration;
mod client;
mod on_handle;
mod declares;
mod dispatch;
mod registration;
mod process;
mod stand_in;
mod entry;
mod test;
mod state;

pub(crate) use client::client_type;
pub(crate) use declaration::declaration;
pub(crate) use entry::{entry, mistaken_function};
pub(crate) use process::{process, process_stand_in};
pub(crate) use registration::registration;
pub(crate) use stand_in::stand_in;
pub(crate) use state::state;
pub(crate) use test::test;

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::TraitArgs;
use crate::model::Worker;

/// Writes the functions of a client, and the impls that connect them with the runtime.
// Input: trait Bank { fn deposit(&self, amount: u64) -> u64; }
// Output: const _: () = {
//     type __deposit = ([(); 0], fn(u64) -> u64);
//     impl BankClient { pub const DEPOSIT: ..; pub fn deposit(..) .. }
//     impl P::WorkerClient for BankClient { .. }
//     pub struct __OnHandle<H>(..);
//     impl<H> __OnHandle<H> { pub fn deposit(..) .. }
//     impl P::Declares<__deposit> for BankClient { .. }
//     impl<__S> P::Dispatch<__S> for BankClient where .. { .. }
// };
pub(crate) fn client(args: &TraitArgs, worker: &Worker) -> TokenStream {
    let facade = &args.facade;
    let functions = client::functions(facade, worker);
    let worker_client = client::worker_client(facade, worker);
    let on_handle = on_handle::on_handle(facade, worker);
    let declares = worker.functions.iter().map(|it| declares::declares(facade, worker, it));
    let dispatch = dispatch::dispatch(facade, worker);
    quote! {
        const _: () = {
            #functions
            #worker_client
            #on_handle
            #(#declares)*
            #dispatch
        };
    }
}

#[cfg(test)]
mod tests;
