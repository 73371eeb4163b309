//! The type beside a process function, whose functions run it in other processes.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Visibility;

use crate::model::{Function, Parameter};
use crate::names::{self, Facade};
use crate::pipes;

use super::{client, declares, dispatch, stand_in};

/// Writes what is beside the function.
// Input: pub fn score(page: &str) -> u64 { .. }
// Output: pub struct score { process: P::ProcessClient }
// const _: () = {
//     pub struct __Key<__F>(PhantomData<__F>);
//     type __score = __Key<fn(&str) -> u64>;
//     impl P::Declares<__score> for P::ProcessClient { .. }
//     impl score { pub const FUNCTION: ..; pub fn run(page: &str) -> P::ProcessRun<u64> { .. } .. }
//     impl P::OfProcess for score { .. }
//     const __HANDLE: &dyn P::Handle<P::Processes, ()> = &P::synchronous(..);
//     P::register_process! { __HANDLE }
// };
pub(crate) fn process(facade: &Facade, vis: &Visibility, function: &Function) -> TokenStream {
    if !stand_in::compiles(function) {
        // rustc reports the mistake for the function itself.
        return process_stand_in(facade, vis, function);
    }
    let span = names::at(function.name);
    let p = facade.private(span);
    let cfgs = function.cfgs();
    let handle_type = handle_type(facade, vis, function);
    let key = key(vis, function);
    let info = info(facade, function);
    let client = quote_spanned!(span=> #p::ProcessClient);
    let declaration = declares::declaration(facade, &client, &info, function);
    let functions = functions(facade, vis, function, &Bodies::real(facade, function));
    let conversion = conversion(facade, function);
    let registration = registration(facade, function);
    quote_spanned! {span=>
        #handle_type
        #(#cfgs)*
        const _: () = {
            #key
            #declaration
            #functions
            #conversion
            #registration
        };
    }
}

/// Writes the same names for a function with a mistake, so that code that uses these names causes
/// no further errors.
pub(crate) fn process_stand_in(
    facade: &Facade,
    vis: &Visibility,
    function: &Function,
) -> TokenStream {
    let span = names::at(function.name);
    let cfgs = function.cfgs();
    let handle_type = handle_type(facade, vis, function);
    let key = client::key_alias(function, &quote!(()));
    let compiles = stand_in::compiles(function);
    let functions = compiles.then(|| functions(facade, vis, function, &Bodies::stand_in(span)));
    let conversion = conversion(facade, function);
    quote_spanned! {span=>
        #handle_type
        #(#cfgs)*
        #[allow(warnings, reason = "a mistake is reported")]
        const _: () = {
            #key
            #functions
            #conversion
        };
    }
}

/// Writes the type that has the name of the function. It has fields in braces, so its name is in
/// the namespace of types only: `score(page)` stays a call of the function, and `let score = ..` a
/// variable.
fn handle_type(facade: &Facade, vis: &Visibility, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let (name, vis) = (function.name, names::moved(vis, span));
    let cfgs = function.cfgs();
    let link = names::link(name, "fn@");
    let summary = format!("Runs the function {link} in other processes.");
    let value = format!("A value of this type is a process that runs {link} for many calls.");
    quote_spanned! {span=>
        #(#cfgs)*
        #[doc = #summary]
        #[doc = ""]
        #[doc = #value]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(
            dead_code,
            non_camel_case_types,
            reason = "the type has the name of its function, and a program may use either"
        )]
        #vis struct #name {
            process: #p::ProcessClient,
        }
    }
}

/// Writes the type that identifies the function.
///
/// It is a type of this crate, as rustc requires in an impl of `Declares` for a client of another
/// crate. Its type argument limits the visibility of that impl to that of the user's types, as in
/// the keys of worker functions.
fn key(vis: &Visibility, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let vis = names::moved(vis, span);
    let types = function.arguments().map(|it| &it.syntax.ty);
    let result = function.result.ty().map(|ty| quote_spanned!(names::at(ty)=> -> #ty));
    let alias = client::key_alias(function, &quote_spanned!(span=> __Key<fn(#(#types),*) #result>));
    quote_spanned! {span=>
        #[doc(hidden)]
        #vis struct __Key<__F>(::core::marker::PhantomData<__F>);
        #alias
    }
}

/// Writes the information of which the runtime computes the function's id.
pub(super) fn info(facade: &Facade, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let name = names::plain(function.name);
    let source_location = facade.source_location(span);
    let (arguments, result) = declares::signature(function);
    let id = function.args.id.as_ref().map(|it| quote_spanned!(span=> .with_id(#it)));
    quote_spanned! {span=>
        #p::FunctionInfo::of_process(#name, #source_location, #arguments, #result) #id
    }
}

/// The bodies of the functions.
struct Bodies {
    run: TokenStream,
    start: TokenStream,
    reuse: TokenStream,
    call: TokenStream,
    /// `None` for a function with a mistake: the types of these functions would be further mistakes.
    maps: Option<MapBodies>,
}

/// The bodies of the functions that run the function on many items.
struct MapBodies {
    map: TokenStream,
    map_unordered: TokenStream,
    find_map: TokenStream,
    for_each: TokenStream,
    reduce: TokenStream,
    reduce_commutative: TokenStream,
}

impl Bodies {
    fn real(facade: &Facade, function: &Function) -> Bodies {
        let span = client::result_span(function);
        let p = facade.private(span);
        let key = names::key(function.name, span);
        let values = function.arguments().map(|it| client::borrowed_argument(facade, it));
        let values = quote_spanned!(span=> (#(#values,)*));
        Bodies {
            run: quote_spanned!(span=> { #p::run::<#key>(#values) }),
            start: quote_spanned!(span=> { #p::start::<#key>(#values) }),
            reuse: quote_spanned!(span=> { #p::reuse::<#key, Self>() }),
            call: quote_spanned!(span=> {
                #p::call::<#p::ProcessClient, #key>(&self.process, #values)
            }),
            maps: Some(MapBodies {
                map: quote_spanned!(span=> { #p::map(items) }),
                map_unordered: quote_spanned!(span=> { #p::map(items) }),
                find_map: quote_spanned!(span=> { #p::find_map::<#key, __T, __M>(items) }),
                for_each: quote_spanned!(span=> { #p::for_each::<#key, __M>(items) }),
                reduce: quote_spanned!(span=> { #p::map_reduce(combine, items, true) }),
                reduce_commutative: quote_spanned!(span=> { #p::map_reduce(combine, items, false) }),
            }),
        }
    }

    fn stand_in(span: Span) -> Bodies {
        let body = || quote_spanned!(span=> { ::core::unreachable!() });
        Bodies { run: body(), start: body(), reuse: body(), call: body(), maps: None }
    }
}

/// Writes the functions of the type.
fn functions(
    facade: &Facade,
    vis: &Visibility,
    function: &Function,
    bodies: &Bodies,
) -> TokenStream {
    let span = client::result_span(function);
    let p = facade.private(span);
    let (name, vis) = (function.name, names::moved(vis, span));
    let key = names::key(name, span);
    let link = names::link(name, "fn@");
    let lints = client::expected_lints(function.attrs);
    let parameters = function.arguments().map(|it| client::parameter(facade, it));
    let parameters = quote!(#(#parameters,)*);
    let run_type = client::future_type(facade, function, ["ProcessRun", "TryProcessRun"]);
    let call_type = client::call_type(facade, function);
    let deprecated = function.attrs.iter().filter(|it| it.path().is_ident("deprecated"));
    let deprecated = quote!(#(#deprecated)*);
    let Bodies { run, start, reuse, call, .. } = bodies;
    let maps = bodies.maps.as_ref().map(|it| maps(facade, &vis, &key, it, &link));
    let docs = Docs::of(&link);
    let Docs { constant, run: run_doc, start: start_doc, .. } = &docs;
    let Docs { reuse: reuse_doc, call: call_doc, process, .. } = &docs;
    let start = has_no_pipes(function).then(|| {
        let start_type = client::future_type(facade, function, ["StartJob", "TryStartJob"]);
        quote_spanned! {span=>
            #[doc = #start_doc]
            #deprecated
            #vis fn start(#parameters) -> #start_type #start
        }
    });
    quote_spanned! {span=>
        #(#lints)*
        #[allow(
            dead_code,
            private_interfaces,
            clippy::impl_trait_in_params,
            clippy::too_many_arguments,
            reason = "a program may use some functions only; rustc checks the types in the function"
        )]
        impl #name {
            #[doc = #constant]
            #vis const FUNCTION: #p::ProcessFunction<#key> = #p::ProcessFunction::NEW;

            #[doc = #run_doc]
            #deprecated
            #vis fn run(#parameters) -> #run_type #run

            #start

            #[doc = #reuse_doc]
            #vis fn reuse() -> #p::Reuse<Self> #reuse

            #[doc = #call_doc]
            #vis fn call(&self, #parameters) -> #call_type #call

            #[doc = #process]
            #vis fn process(&self) -> &#p::ProcessClient {
                &self.process
            }

            #maps
        }
    }
}

/// Writes the functions that run the function on many items.
fn maps(
    facade: &Facade,
    vis: &TokenStream,
    key: &Ident,
    bodies: &MapBodies,
    link: &str,
) -> TokenStream {
    let span = key.span();
    let p = facade.private(span);
    let items = quote_spanned!(span=> items: impl #p::IntoItems<#p::ProcessInput<#key>, __M>);
    let error = quote_spanned!(span=> #p::ProcessMapError<#key>);
    let future = |output| quote_spanned!(span=> impl ::core::future::Future<Output = #output>);
    let found = future(quote_spanned!(span=>
        ::core::result::Result<::core::option::Option<__T>, #error>
    ));
    let count = future(quote_spanned!(span=> ::core::result::Result<u64, #error>));
    let reduction = quote_spanned!(span=> #p::MapReduce<#p::ProcessClient, #key>);
    let combine = quote_spanned!(span=>
        #p::Combine<#p::ProcessClient, #p::ProcessOutput<#key>>
    );
    let MapBodies { map, map_unordered, find_map, for_each, reduce, reduce_commutative } = bodies;
    let docs =
        |name: &str, text: &str| format!("{text} See `{name}` of `rpc_parallel::pool::Pool`.");
    let map_doc = docs(
        "map",
        &format!("Runs {link} on all items, on all cores. Returns a stream of results in order."),
    );
    let unordered_doc = docs(
        "map_unordered",
        &format!("Runs {link} on all items. Returns indexes and results as they are ready."),
    );
    let find_doc = docs("find_map", &format!("Returns the first `Some` that {link} returns."));
    let each_doc = docs("for_each", &format!("Runs {link} on all items for its side effects."));
    let reduce_doc = docs(
        "map_reduce",
        &format!("Runs {link} on all items, and combines the results in the workers, in order."),
    );
    let commutative_doc = docs(
        "map_reduce_commutative",
        &format!("Runs {link} on all items, and combines the results in any order."),
    );
    quote_spanned! {span=>
        #[doc = #map_doc]
        #vis fn map<__M>(#items) -> #p::Map<#p::ProcessClient, #key> #map

        #[doc = #unordered_doc]
        #vis fn map_unordered<__M>(#items) -> #p::Map<#p::ProcessClient, #key, #p::Unordered>
        #map_unordered

        #[doc = #find_doc]
        #vis fn find_map<__T, __M>(#items) -> #found
        where
            #p::ProcessClient: #p::Declares<#key, Output = ::core::option::Option<__T>>,
        #find_map

        #[doc = #each_doc]
        #vis fn for_each<__M>(#items) -> #count #for_each

        #[doc = #reduce_doc]
        #vis fn map_reduce<__G: #combine, __M>(combine: __G, #items) -> #reduction #reduce

        #[doc = #commutative_doc]
        #vis fn map_reduce_commutative<__G: #combine, __M>(combine: __G, #items) -> #reduction
        #reduce_commutative
    }
}

/// Returns whether a job can call the function: the pipes of a call belong to its caller, and a job
/// has none.
fn has_no_pipes(function: &Function) -> bool {
    let types = function.arguments().map(|it| it.ty).chain(function.result.ty());
    types.into_iter().all(|ty| pipes::within(ty).is_empty())
}

/// The summaries of the functions.
struct Docs {
    constant: String,
    run: String,
    start: String,
    reuse: String,
    call: String,
    process: &'static str,
}

impl Docs {
    fn of(link: &str) -> Docs {
        Docs {
            constant: format!("The function {link} as a value."),
            run: format!("Runs {link} in a new process, which ends after this one call."),
            start: format!("Starts a job: a call of {link} that any process may join."),
            reuse: format!("Starts a process that runs {link} for many calls."),
            call: format!("Calls {link} in this process."),
            process: "Returns the client of this process.",
        }
    }
}

/// Writes the conversion of a process into the type.
fn conversion(facade: &Facade, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let name = function.name;
    quote_spanned! {span=>
        #[automatically_derived]
        impl #p::OfProcess for #name {
            fn of(process: #p::ProcessClient) -> Self {
                Self { process }
            }
        }
    }
}

/// Writes the registration, by which every process of the program finds the function.
fn registration(facade: &Facade, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let name = function.name;
    let arguments = function.parameters.iter().map(|it| match it {
        Parameter::Argument(argument) => dispatch::argument(argument, span),
        // `check` has reported the context.
        Parameter::Context(context) => context.ty.to_token_stream(),
    });
    let call = quote_spanned!(span=> #name(#(#arguments,)*));
    let client = quote_spanned!(span=> #p::ProcessClient);
    let state = quote_spanned!(span=> #p::Processes);
    let handle = dispatch::handle(facade, (&client, &state), function, &call);
    let deprecated = function.is_deprecated();
    let deprecated = deprecated
        .then(|| quote_spanned!(span=> #[allow(deprecated, reason = "callers get the warning")]));
    quote_spanned! {span=>
        #deprecated
        const __HANDLE: &dyn #p::Handle<#p::Processes, ()> = #handle;
        #p::register_process! { __HANDLE }
    }
}
