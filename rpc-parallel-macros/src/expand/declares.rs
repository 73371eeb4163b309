//! The impl of `Declares` for each function: its types, their codecs, and its id.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::Type;

use crate::model::{Argument, Function, Returned, Worker};
use crate::names::{self, Facade};
use crate::pipes::{self, Kind, Written};
use crate::text::text;
use crate::type_parts::{type_arguments, ungrouped};

// Input: fn deposit(&self, amount: u64, note: &str) -> u64;
// Output: impl P::Declares<__deposit> for BankClient {
//     const FUNCTION: P::FunctionInfo = P::FunctionInfo::new("deposit", "Bank", .., "u64,&str", "u64");
//     type Codecs = (P::Codec<u64>, P::Codec<str>,);
//     const CODECS: Self::Codecs = (P::codec::<u64>(), P::codec::<str>(),);
//     type Returns = u64;
//     type Output = u64;
//     type Error = P::CallError;
//     const ANSWER: P::Answer<..> = P::plain(P::codec::<u64>());
// }
pub(super) fn declares(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let cfgs = function.cfgs();
    let client = names::client_type(worker.name);
    let declaration = declaration(facade, &client, &info(facade, worker, function), function);
    quote_spanned!(span=> #(#cfgs)* #declaration)
}

/// Writes the impl of `Declares` for a client and the key of the function.
pub(super) fn declaration(
    facade: &Facade,
    client: &impl ToTokens,
    info: &TokenStream,
    function: &Function,
) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let key = names::key(function.name, span);
    let codecs = codecs(facade, function);
    let result = result(facade, function);
    quote_spanned! {span=>
        #[automatically_derived]
        impl #p::Declares<#key> for #client {
            const FUNCTION: #p::FunctionInfo = #info;
            #codecs
            #result
        }
    }
}

pub(super) fn codecs(facade: &Facade, function: &Function) -> TokenStream {
    let types = function.arguments().map(|it| codec_type(facade, it));
    let values = function.arguments().map(|it| argument_codec(facade, it));
    quote_spanned! {names::at(function.name)=>
        type Codecs = (#(#types,)*);
        const CODECS: Self::Codecs = (#(#values,)*);
    }
}

fn codec_type(facade: &Facade, argument: &Argument) -> TokenStream {
    let ty = argument.ty;
    let span = names::at(ty);
    let p = facade.private(span);
    match argument.elements {
        // If `ty` is not our `Pipe`, then rustc reports that once, in dispatch.
        Some(elements) => quote_spanned!(span=> #p::Codec<#p::Pipe<#elements>>),
        None => quote_spanned!(span=> #p::Codec<#ty>),
    }
}

/// Writes the codec of an argument.
fn argument_codec(facade: &Facade, argument: &Argument) -> TokenStream {
    let ty = argument.ty;
    if !argument.is_owned_context() {
        return codec(facade, ty);
    }
    // The error for a context without `&` has a cure of its own.
    let span = names::at(ty);
    let p = facade.private(span);
    quote_spanned!(span=> #p::context_codec::<#ty>())
}

/// Writes the codec of a type. The one place that requires `ty: Message`, at the span of `ty`, or
/// of the elements of a pipe.
fn codec(facade: &Facade, ty: &Type) -> TokenStream {
    let span = names::at(ty);
    let p = facade.private(span);
    match pipes::whole(ty) {
        Some(Written { kind: Kind::Pipe, elements, .. }) => {
            quote_spanned!(span=> #p::pipe_codec::<#elements>())
        }
        Some(Written { kind: Kind::Writer, elements, .. }) => {
            quote_spanned!(span=> #p::writer_codec::<#elements>())
        }
        None => quote_spanned!(span=> #p::codec::<#ty>()),
    }
}

pub(super) fn result(facade: &Facade, function: &Function) -> TokenStream {
    match &function.result {
        Returned::Nothing => {
            let span = names::at(function.name);
            let p = facade.private(span);
            let unit = quote_spanned!(span=> ());
            plain(&p, &unit, &quote_spanned!(span=> #p::codec::<()>()))
        }
        Returned::Plain(ty) => plain(&facade.private(names::at(ty)), ty, &codec(facade, ty)),
        Returned::Fallible(ty) => fallible(facade, function, ty),
    }
}

fn plain(p: &TokenStream, ty: &impl ToTokens, codec: &TokenStream) -> TokenStream {
    quote_spanned! {names::at(ty)=>
        type Returns = #ty;
        type Output = #ty;
        type Error = #p::CallError;
        const ANSWER: #p::Answer<Self::Returns, Self::Output, Self::Error> = #p::plain(#codec);
    }
}

fn fallible(facade: &Facade, function: &Function, ty: &Type) -> TokenStream {
    let span = names::at(ty);
    let p = facade.private(span);
    // An alias has fewer than two type arguments: then errors underline the whole result.
    let written = match ungrouped(ty) {
        Type::Path(path) => type_arguments(&path.path),
        _ => Vec::new(),
    };
    let (ok, err) = match written.as_slice() {
        [ok, err] => (*ok, *err),
        [ok] => (*ok, ty),
        _ => (ty, ty),
    };
    let ok = part_codec(facade, function, "codec", "Ok", ok);
    let err = part_codec(facade, function, "error_codec", "Err", err);
    quote_spanned! {span=>
        type Returns = #ty;
        type Output = <#ty as #p::IsResult>::Ok;
        type Error = #p::FunctionError<<#ty as #p::IsResult>::Err>;
        const ANSWER: #p::Answer<Self::Returns, Self::Output, Self::Error> =
            #p::fallible(#ok, #err);
    }
}

/// Writes the codec of the part `Ok` or `Err` of a `Result`, at the span of the written type of
/// that part. `constructor` is the runtime's function that makes the codec.
fn part_codec(
    facade: &Facade,
    function: &Function,
    constructor: &str,
    part: &str,
    written: &Type,
) -> TokenStream {
    let (first, last) = (names::at(written), names::at_end_of(written));
    let p = facade.private(first);
    let key = names::key(function.name, first);
    let part = Ident::new(part, last);
    let constructor = Ident::new(constructor, first);
    // rustc underlines from the first to the last token of this type.
    let result = quote_spanned!(first=> <Self as #p::Declares<#key>>::Returns);
    let begin = quote_spanned!(first=> <#result as #p::IsResult>);
    let end = quote_spanned!(last=> ::#part);
    quote_spanned!(first=> #p::#constructor::<#begin #end>())
}

/// Returns the types of the arguments, and that of the result, as ids are computed from them.
pub(super) fn signature(function: &Function) -> (String, String) {
    let arguments: Vec<_> = function.arguments().map(|it| text(&it.syntax.ty)).collect();
    let result = function.result.ty().map_or_else(|| "()".to_owned(), text);
    (arguments.join(","), result)
}

/// Writes the information of which the runtime computes the function's id, and its flags.
pub(super) fn info(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let name = names::plain(function.name);
    let worker_trait = names::plain(worker.name);
    let source_location = facade.source_location(span);
    let (arguments, result) = signature(function);
    let args = &function.args;
    let id = args.id.as_ref().map(|it| quote_spanned!(span=> .with_id(#it)));
    let one_way = args.one_way.then(|| quote_spanned!(span=> .one_way()));
    let no_cancel = args.no_cancel.as_ref().map(|_| quote_spanned!(span=> .no_cancel()));
    quote_spanned! {span=>
        #p::FunctionInfo::new(#name, #worker_trait, #source_location, #arguments, #result)
            #id #one_way #no_cancel
    }
}
