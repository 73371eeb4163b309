//! The client: a struct with the trait's functions, each of which makes a call.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Type};

use crate::args::TraitArgs;
use crate::model::{Argument, Function, Returned, Worker};
use crate::names::{self, Facade};

/// The client's type.
// Input: pub trait Bank { .. }
// Output: pub struct BankClient(P::Client);
pub(crate) fn client_type(args: &TraitArgs, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = args.facade.private(span);
    let client = names::client_type(worker.name);
    let vis = visibility(worker, span);
    let summary = format!("Calls a worker that implements {}.", names::link(worker.name, ""));
    let docs = docs(&worker.item.attrs);
    let space = (!docs.is_empty()).then(|| quote!(#[doc = ""]));
    quote_spanned! {span=>
        #[doc = #summary]
        #space
        #(#docs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code, reason = "a program need not call the workers it serves")]
        #vis struct #client(#p::Client);
    }
}

/// The functions and their constants.
pub(super) fn functions(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let client = names::client_type(worker.name);
    let keys = worker.functions.iter().map(key);
    let constants = worker.functions.iter().map(|it| constant(facade, worker, it));
    let functions = worker.functions.iter().map(|it| {
        let span = result_span(it);
        let p = facade.private(span);
        let key = names::key(it.name, span);
        let values = it.arguments().map(|it| given(facade, it));
        let body = quote_spanned!(span=> { #p::call::<Self, #key>(self, (#(#values,)*)) });
        function(facade, worker, it, &body)
    });
    let expected = expected_lints(&worker.item.attrs);
    quote_spanned! {span=>
        #(#keys)*

        #(#expected)*
        #[allow(
            dead_code,
            private_interfaces,
            clippy::impl_trait_in_params,
            reason = "a program need not use all of it, and the trait speaks for its types"
        )]
        impl #client {
            #(#constants)*
            #(#functions)*
        }
    }
}

/// The type that stands for a function: its number, and its signature.
///
/// The number tells it from others. The signature is there so that the impls that have this type
/// in their heads are no more visible than the user's types; otherwise these would have to be
/// public where the trait is.
// Output: type __deposit = ([(); 0], fn(u64, &str) -> u64);
fn key(function: &Function) -> TokenStream {
    let index = function.index;
    let types = function.arguments().map(|it| &it.syntax.ty);
    let result = function.result.ty().map(|ty| quote_spanned!(names::at(ty)=> -> #ty));
    key_that_is(function, &quote!(([(); #index], fn(#(#types),*) #result)))
}

pub(super) fn key_that_is(function: &Function, ty: &TokenStream) -> TokenStream {
    let span = names::at(function.name);
    let cfgs = function.cfgs();
    let key = names::key(function.name, span);
    quote_spanned! {span=>
        #(#cfgs)*
        #[allow(dead_code, non_camel_case_types, reason = "named after a function")]
        type #key = #ty;
    }
}

pub(super) fn constant(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let vis = visibility(worker, span);
    let cfgs = function.cfgs();
    let constant = names::constant(function.name);
    let key = names::key(function.name, span);
    let summary = format!("{} as a value.", names::link(function.name, "Self::"));
    quote_spanned! {span=>
        #[doc = #summary]
        #(#cfgs)*
        #vis const #constant: #p::DeclaredFunction<Self, #key> = #p::DeclaredFunction::NEW;
    }
}

/// One function of the client, with the given body.
// Input: fn deposit(&self, cx: &Context<Account>, amount: u64, note: &str) -> u64;
// Output: pub fn deposit(&self, amount: u64, note: &str) -> P::Call<u64> { .. }
pub(super) fn function(
    facade: &Facade,
    worker: &Worker,
    function: &Function,
    body: &TokenStream,
) -> TokenStream {
    let span = result_span(function);
    let vis = visibility(worker, span);
    let attrs = carried_attributes(worker, function);
    let name = function.name;
    let arguments = function.arguments().map(|it| taken(facade, it));
    let call = call_type(facade, function);
    quote_spanned! {span=>
        #(#attrs)*
        #vis fn #name(&self, #(#arguments,)*) -> #call #body
    }
}

/// Where the client's function stands. What the compiler says of its type, it says of the whole
/// function too, and in the same place it says it once.
fn result_span(function: &Function) -> Span {
    function.result.ty().map_or_else(|| names::at(function.name), names::at)
}

/// What makes the type a client.
pub(super) fn worker_client(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = facade.private(span);
    let client = names::client_type(worker.name);
    let connection = connection(facade, worker);
    let name = names::plain(worker.name);
    let place = facade.place(span);
    let functions = worker.functions.iter().map(|it| {
        let cfgs = it.cfgs();
        let key = names::key(it.name, span);
        quote_spanned!(span=> #(#cfgs)* <Self as #p::Declares<#key>>::FUNCTION)
    });
    quote_spanned! {span=>
        #[automatically_derived]
        impl #p::WorkerClient for #client {
            #connection
            const WORKER_TRAIT: #p::WorkerTrait = #p::WorkerTrait {
                name: #name,
                place: #place,
                functions: &[#(#functions,)*],
            };
            fn from_client(client: #p::Client) -> Self {
                Self(client)
            }
            fn client(&self) -> &#p::Client {
                &self.0
            }
        }
        const _: () = #p::assert_distinct(<#client as #p::WorkerClient>::WORKER_TRAIT.functions);
    }
}

/// What a connection holds: what stands in the brackets of `Context<..>`.
pub(super) fn connection(facade: &Facade, worker: &Worker) -> TokenStream {
    let Some(context) = worker.context() else {
        return quote_spanned!(names::at(worker.name)=> type Connection = (););
    };
    let ty = context.ty;
    let (first, last) = (names::at(ty), names::at_end_of(ty));
    let p = facade.private(first);
    let state = match context.state() {
        Some(state) => state.to_token_stream(),
        None => quote_spanned!(first=> <#ty as #p::IsContext>::State),
    };
    let begin = quote_spanned!(first=> type Connection);
    let end = quote_spanned!(last=> = #state;);
    quote!(#begin #end)
}

/// What the function returns to the caller: a call to be awaited.
fn call_type(facade: &Facade, function: &Function) -> TokenStream {
    match &function.result {
        Returned::Nothing => {
            let span = names::at(function.name);
            let p = facade.private(span);
            quote_spanned!(span=> #p::Call<()>)
        }
        Returned::Plain(ty) => {
            let p = facade.private(names::at(ty));
            quote_spanned!(names::at(ty)=> #p::Call<#ty>)
        }
        Returned::Fallible(ty) => {
            let p = facade.private(names::at(ty));
            quote_spanned!(names::at(ty)=> #p::TryCall<#ty>)
        }
    }
}

/// An argument as the client's function takes it: as the worker's does, and any stream for a pipe.
// Input: numbers: Pipe<u64>
// Output: numbers: impl P::IntoPipe<u64>
fn taken(facade: &Facade, argument: &Argument) -> TokenStream {
    let Argument { name, syntax, .. } = argument;
    let ty: &Type = &syntax.ty;
    let Some(elements) = argument.elements else { return quote!(#name: #ty) };
    let span = names::at(ty);
    let p = facade.private(span);
    let ty = quote_spanned!(span=> impl #p::IntoPipe<#elements>);
    quote!(#name: #ty)
}

/// An argument as it is handed to the runtime: borrowed.
fn given(facade: &Facade, argument: &Argument) -> TokenStream {
    let name = &argument.name;
    let span = names::at(name);
    if argument.elements.is_some() {
        let p = facade.private(span);
        return quote_spanned!(span=> &#p::IntoPipe::into_pipe(#name));
    }
    match argument.borrow {
        Some(_) => name.to_token_stream(),
        None => quote_spanned!(span=> &#name),
    }
}

fn visibility(worker: &Worker, span: Span) -> TokenStream {
    names::moved(&worker.item.vis, span)
}

fn docs(attrs: &[Attribute]) -> Vec<&Attribute> {
    attrs.iter().filter(|it| it.path().is_ident("doc")).collect()
}

/// The attributes of a trait's function that its client's function has too.
fn carried_attributes(worker: &Worker, function: &Function) -> Vec<TokenStream> {
    let attrs = &function.item.attrs;
    let carried = ["doc", "cfg", "cfg_attr", "deprecated"];
    let carried = attrs.iter().filter(|it| carried.iter().any(|name| it.path().is_ident(name)));
    let mut carried: Vec<_> = carried.map(ToTokens::to_token_stream).collect();
    carried.extend(expected_lints(attrs));
    if docs(attrs).is_empty() {
        let path = format!("{}::", names::plain(worker.name));
        let summary = format!("Calls {}.", names::link(function.name, &path));
        carried.push(quote!(#[doc = #summary]));
    }
    carried
}

/// Lints that the user allows or expects, as ones to allow: they need not appear twice.
fn expected_lints(attrs: &[Attribute]) -> Vec<TokenStream> {
    let lints =
        attrs.iter().filter(|it| it.path().is_ident("allow") || it.path().is_ident("expect"));
    let lints = lints.filter_map(|it| it.meta.require_list().ok());
    lints.map(|it| &it.tokens).map(|it| quote!(#[allow(#it)])).collect()
}
