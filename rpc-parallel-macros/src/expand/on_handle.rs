//! The functions of a client on a handle, which is not connected. Calling one is an error whose
//! cure is `connect`.
//!
//! Without them rustc would only report that the handle has no such function.

use proc_macro2::TokenStream;
use quote::quote_spanned;

use crate::model::{Function, Worker};
use crate::names::{self, Facade};

use super::client;

/// Writes the type to which a handle dereferences. No function of it can be called, because no
/// handle implements `IsConnected`.
// Output: pub struct __OnHandle<H>(PhantomData<fn() -> H>);
// impl<H> __OnHandle<H> {
//     pub fn deposit(&self, _: u64) -> P::Call<u64> where H: P::IsConnected { H::unreachable() }
// }
// impl<H: 'static> P::OnHandle for __OnHandle<H> {
//     const INSTANCE: &'static Self = &Self(PhantomData);
// }
pub(super) fn on_handle(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = facade.private(span);
    let vis = names::moved(&worker.item.vis, span);
    let functions = worker.functions.iter().map(|it| function(facade, worker, it));
    quote_spanned! {span=>
        #[doc(hidden)]
        #vis struct __OnHandle<__H>(::core::marker::PhantomData<fn() -> __H>);

        #[allow(
            dead_code,
            private_interfaces,
            clippy::all,
            clippy::pedantic,
            clippy::impl_trait_in_params,
            reason = "the functions exist for errors only"
        )]
        impl<__H> __OnHandle<__H> {
            #(#functions)*
        }

        impl<__H: 'static> #p::OnHandle for __OnHandle<__H> {
            const INSTANCE: &'static Self = &Self(::core::marker::PhantomData);
        }
    }
}

fn function(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = client::result_span(function);
    let p = facade.private(span);
    let vis = names::moved(&worker.item.vis, span);
    let cfgs = function.cfgs();
    let name = function.name;
    let types = function.arguments().map(|it| client::parameter_type(facade, it));
    let call = client::call_type(facade, function);
    quote_spanned! {span=>
        #(#cfgs)*
        #[doc(hidden)]
        #vis fn #name(&self, #(_: #types,)*) -> #call
        where
            __H: #p::IsConnected,
        {
            __H::unreachable()
        }
    }
}
