//! The dispatch table of a worker: one entry for each function, in the order of the trait.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;

use crate::model::{Argument, Context, Function, Parameter, Worker};
use crate::names::{self, Facade};

/// Writes the impl of `Dispatch`, for every type that implements the trait and is a worker type.
// Output: impl<__S> P::Dispatch<__S> for BankClient where __S: Bank + P::OneWorkerTraitPerType {
//     const TABLE: P::Table<__S, Self> = &[&P::synchronous::<Self, __owner, __S>(..), ..];
// }
pub(super) fn dispatch(facade: &Facade, worker: &Worker) -> TokenStream {
    let span = names::at(worker.name);
    let p = facade.private(span);
    let client = names::client_type(worker.name);
    let worker_trait = worker.name;
    let entries = worker.functions.iter().map(|it| entry(facade, worker, it));
    let deprecated = worker.functions.iter().any(Function::is_deprecated);
    let deprecated = deprecated
        .then(|| quote_spanned!(span=> #[allow(deprecated, reason = "callers get the warning")]));
    quote_spanned! {span=>
        #deprecated
        #[automatically_derived]
        impl<__S> #p::Dispatch<__S> for #client
        where
            __S: #worker_trait + #p::OneWorkerTraitPerType,
        {
            const TABLE: #p::Table<__S, Self> = &[#(#entries,)*];
        }
    }
}

fn entry(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let cfgs = function.cfgs();
    let types = (&quote_spanned!(span=> Self), &quote_spanned!(span=> __S));
    let handle = handle(facade, types, function, &call(facade, worker, function));
    let takes_context = function.takes_context().then(|| quote_spanned!(span=> .takes_context()));
    quote_spanned!(span=> #(#cfgs)* #handle #takes_context)
}

/// Writes the value that decodes the arguments of a function, and makes this call of it.
pub(super) fn handle(
    facade: &Facade,
    (client, state): (&TokenStream, &TokenStream),
    function: &Function,
    call: &TokenStream,
) -> TokenStream {
    let span = names::at(function.name);
    let p = facade.private(span);
    let key = names::key(function.name, span);
    let owned = function.arguments().map(|it| &it.owned);
    if function.is_async() {
        quote_spanned! {span=>
            &#p::asynchronous::<#client, #key, #state>(
                |__scope, (#(#owned,)*)| #p::boxed(async move { #call.await })
            )
        }
    } else {
        quote_spanned! {span=>
            &#p::synchronous::<#client, #key, #state>(|__scope, (#(#owned,)*)| #call)
        }
    }
}

/// Writes the call of the user's function.
// Output: <__S as Bank>::deposit(
//     __scope.state(), P::context::<Context<Account>, _>(__scope.context()), __a1, &__a2,
// )
fn call(facade: &Facade, worker: &Worker, function: &Function) -> TokenStream {
    let span = names::at(function.name);
    let worker_trait = worker.name;
    let name = function.name;
    let arguments = function.parameters.iter().map(|it| match it {
        Parameter::Context(context) => self::context(facade, context),
        Parameter::Argument(argument) => self::argument(argument, span),
    });
    quote_spanned!(span=> <__S as #worker_trait>::#name(__scope.state(), #(#arguments,)*))
}

/// Writes an argument as the user's function takes it.
pub(super) fn argument(argument: &Argument, span: Span) -> TokenStream {
    let owned = &argument.owned;
    match argument.borrow {
        Some(_) => quote_spanned!(span=> &#owned),
        None => quote_spanned!(span=> #owned),
    }
}

/// Writes a context. The one place that requires that the type is our `Context`, at its span.
fn context(facade: &Facade, context: &Context) -> TokenStream {
    let ty = context.ty;
    let span = names::at(ty);
    let p = facade.private(span);
    quote_spanned!(span=> #p::context::<#ty, _>(__scope.context()))
}
