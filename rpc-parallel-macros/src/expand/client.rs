//! The client: a struct with one function for each function of the trait. Its functions make calls.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Type};

use crate::args::TraitArgs;
use crate::model::{Argument, Function, Returned, Worker};
use crate::names::{self, Facade};

/// Writes the type of the client.
// Input: pub trait Bank { .. }
// Output: pub struct BankClient(P::Client);
pub(crate) fn client_type(args: &TraitArgs, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = args.facade.private(span);
    let client = names::client_type(worker.name);
    let vis = visibility(worker, span);
    let summary =
        format!("The client of a worker that implements {}.", names::link(worker.name, ""));
    let docs = docs(&worker.item.attrs);
    let space = (!docs.is_empty()).then(|| quote!(#[doc = ""]));
    quote_spanned! {span=>
        #[doc = #summary]
        #space
        #(#docs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code, reason = "a program may serve workers without calling them")]
        #vis struct #client(#p::Client);
    }
}

/// Writes the functions of the client, and their constants.
pub(super) fn functions(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let client = names::client_type(worker.name);
    let keys = worker.functions.iter().map(key);
    let constants = worker.functions.iter().map(|it| constant(facade, worker, it));
    let functions = worker.functions.iter().map(|it| {
        let span = result_span(it);
        let p = facade.private(span);
        let key = names::key(it.name, span);
        let values = it.arguments().map(|it| borrowed_argument(facade, it));
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
            reason = "a program may call some functions only; rustc checks the types in the trait"
        )]
        impl #client {
            #(#constants)*
            #(#functions)*
        }
    }
}

/// Writes the type that identifies a function: its position in the trait, and its signature.
///
/// The position makes the type unique. The signature limits the visibility of the impls that name
/// this type to that of the user's types, so a public trait can have functions with private types.
// Output: type __deposit = ([(); 0], fn(u64, &str) -> u64);
fn key(function: &Function) -> TokenStream {
    let index = function.index;
    let types = function.arguments().map(|it| &it.syntax.ty);
    let result = function.result.ty().map(|ty| quote_spanned!(names::at(ty)=> -> #ty));
    key_alias(function, &quote!(([(); #index], fn(#(#types),*) #result)))
}

/// Writes a type alias with the name of the function's key.
pub(super) fn key_alias(function: &Function, ty: &TokenStream) -> TokenStream {
    let span = names::at(function.name);
    let cfgs = function.cfgs();
    let key = names::key(function.name, span);
    quote_spanned! {span=>
        #(#cfgs)*
        #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
        type #key = #ty;
    }
}

/// Writes the constant that makes a function a value.
pub(super) fn constant(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let vis = visibility(worker, span);
    let cfgs = function.cfgs();
    let constant = names::constant(function.name);
    let key = names::key(function.name, span);
    let summary = format!("The function {} as a value.", names::link(function.name, "Self::"));
    quote_spanned! {span=>
        #[doc = #summary]
        #(#cfgs)*
        #vis const #constant: #p::DeclaredFunction<Self, #key> = #p::DeclaredFunction::NEW;
    }
}

/// Writes one function of the client, with the given body.
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
    let parameters = function.arguments().map(|it| parameter(facade, it));
    let call = call_type(facade, function);
    quote_spanned! {span=>
        #(#attrs)*
        #vis fn #name(&self, #(#parameters,)*) -> #call #body
    }
}

/// Returns the span of a client function: that of its result. rustc reports an error in the result
/// type for the function as well, and drops the second report if both are at the same place.
pub(super) fn result_span(function: &Function) -> Span {
    function.result.ty().map_or_else(|| names::at(function.name), names::at)
}

/// Writes the impl of `WorkerClient`.
pub(super) fn worker_client(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = facade.private(span);
    let client = names::client_type(worker.name);
    let connection = connection(facade, worker);
    let name = names::plain(worker.name);
    let source_location = facade.source_location(span);
    let functions = worker.functions.iter().map(|it| {
        let cfgs = it.cfgs();
        let key = names::key(it.name, span);
        quote_spanned!(span=> #(#cfgs)* <Self as #p::Declares<#key>>::FUNCTION)
    });
    quote_spanned! {span=>
        #[automatically_derived]
        impl #p::WorkerClient for #client {
            #connection
            type OnHandle<__H: 'static> = __OnHandle<__H>;
            const WORKER_TRAIT: #p::WorkerTrait = #p::WorkerTrait {
                name: #name,
                place: #source_location,
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

/// Writes the associated type of the connection state: the type argument of `Context<..>`.
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

/// Returns the type of the call that the client's function returns.
pub(super) fn call_type(facade: &Facade, function: &Function) -> TokenStream {
    future_type(facade, function, ["Call", "TryCall"])
}

/// Returns the type of a future of the function's result. `plain` and `fallible` are its names in
/// the runtime, for a result type and for a `Result`.
pub(super) fn future_type(
    facade: &Facade,
    function: &Function,
    [plain, fallible]: [&str; 2],
) -> TokenStream {
    let named = |name, span| (facade.private(span), Ident::new(name, span));
    match &function.result {
        Returned::Nothing => {
            let span = names::at(function.name);
            let (p, future) = named(plain, span);
            quote_spanned!(span=> #p::#future<()>)
        }
        Returned::Plain(ty) => {
            let (p, future) = named(plain, names::at(ty));
            quote_spanned!(names::at(ty)=> #p::#future<#ty>)
        }
        Returned::Fallible(ty) => {
            let (p, future) = named(fallible, names::at(ty));
            quote_spanned!(names::at(ty)=> #p::#future<#ty>)
        }
    }
}

/// Writes the parameter of a client function.
pub(super) fn parameter(facade: &Facade, argument: &Argument) -> TokenStream {
    let (name, ty) = (&argument.name, parameter_type(facade, argument));
    quote!(#name: #ty)
}

/// Returns the type of a client function's parameter: the worker's type, or any stream for a pipe.
// Input: Pipe<u64>
// Output: impl P::IntoPipe<u64>
pub(super) fn parameter_type(facade: &Facade, argument: &Argument) -> TokenStream {
    let ty: &Type = &argument.syntax.ty;
    let Some(elements) = argument.elements else { return ty.to_token_stream() };
    let span = names::at(ty);
    let p = facade.private(span);
    quote_spanned!(span=> impl #p::IntoPipe<#elements>)
}

/// Writes an argument as the runtime takes it: borrowed.
pub(super) fn borrowed_argument(facade: &Facade, argument: &Argument) -> TokenStream {
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

pub(super) fn docs(attrs: &[Attribute]) -> Vec<&Attribute> {
    attrs.iter().filter(|it| it.path().is_ident("doc")).collect()
}

/// Returns the attributes of a trait's function that the client's function has, too.
fn carried_attributes(worker: &Worker, function: &Function) -> Vec<TokenStream> {
    let attrs = function.attrs;
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

/// Returns the lints that the user allows or expects, as lints to allow: an expected lint fires in
/// the trait, but perhaps not in the client.
pub(super) fn expected_lints(attrs: &[Attribute]) -> Vec<TokenStream> {
    let lints =
        attrs.iter().filter(|it| it.path().is_ident("allow") || it.path().is_ident("expect"));
    let lints = lints.filter_map(|it| it.meta.require_list().ok());
    lints.map(|it| &it.tokens).map(|it| quote!(#[allow(#it)])).collect()
}
