//! The `main` of a program: it runs a worker or the user's `main`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{Expr, FnArg, Type};

use crate::args::{EntryArgs, FlavorArg, RuntimeArgs, SnapshotArg};
use crate::head::FunctionHead;
use crate::names;

/// Writes `main`.
// Input: async fn main(args: Vec<String>) -> R { .. }
// Output: fn main() -> R {
//     async fn main(args: Vec<String>) -> R { .. }
//     P::Entry::new().run_async(|| main(P::from_args::<Vec<String>>()))
// }
pub(crate) fn entry(args: &EntryArgs, main: &FunctionHead) -> TokenStream {
    let name = &main.sig.ident;
    let span = names::at(name);
    let (vis, output) = (&main.vis, &main.sig.output);
    let entry = entry_value(args, main);
    let run = if main.sig.asyncness.is_some() {
        quote_spanned!(span=> run_async)
    } else {
        quote_spanned!(span=> run_sync)
    };
    let arguments = main.sig.inputs.iter().filter_map(|it| match it {
        FnArg::Typed(typed) => Some(from_args(args, &typed.ty)),
        FnArg::Receiver(_) => None,
    });
    quote_spanned! {span=>
        #vis fn #name() #output {
            #main
            #entry.#run(|| #name(#(#arguments),*))
        }
    }
}

/// Writes a function with a mistake, so that its name exists and its body is checked.
pub(crate) fn mistaken_function(function: &FunctionHead) -> TokenStream {
    if function.sig.receiver().is_some() || function.sig.ident != "main" {
        return function.bare().into_token_stream();
    }
    let span = names::at(&function.sig.ident);
    let (vis, output, written) = (&function.vis, &function.sig.output, function.bare());
    quote_spanned! {span=>
        #vis fn main() #output {
            #[allow(dead_code, reason = "a mistake is reported")]
            #written
            ::core::unreachable!()
        }
    }
}

/// Writes the argument of `main`. The one place that requires `ty: FromArgs`, at the span of `ty`.
fn from_args(args: &EntryArgs, ty: &Type) -> TokenStream {
    let span = names::at(ty);
    let p = args.facade.private(span);
    quote_spanned!(span=> #p::from_args::<#ty>())
}

/// Writes the runtime's value for the arguments of the attribute.
// Output: P::Entry::new().flavor(P::RuntimeFlavor::CurrentThread).settings(|| P::settings(value))
pub(super) fn entry_value(args: &EntryArgs, function: &FunctionHead) -> TokenStream {
    let span = names::at(&function.sig.ident);
    let p = args.facade.private(span);
    let flavor = flavor(args, &args.runtime, function);
    let flavor = flavor.map(|it| quote_spanned!(span=> .flavor(#it)));
    let worker_flavor = self::flavor(args, &args.worker_runtime, function);
    let worker_flavor = worker_flavor.map(|it| quote_spanned!(span=> .worker_flavor(#it)));
    let settings = args.settings.as_ref().map(|it| settings(args, it));
    let settings = settings.map(|it| quote_spanned!(span=> .settings(|| #it)));
    let logs = args.worker_logs.as_ref();
    let logs = logs.map(|it| quote_spanned!(span=> .worker_logs(#it)));
    let snapshot = args.snapshot.as_ref().map(|it| snapshot(args, it, function));
    quote_spanned!(span=> #p::Entry::new() #flavor #worker_flavor #settings #logs #snapshot)
}

/// Writes the snapshot. The one place that requires `IntoWarmed` of the function's result, at its
/// span.
fn snapshot(args: &EntryArgs, snapshot: &SnapshotArg, function: &FunctionHead) -> TokenStream {
    let Some(warm) = &snapshot.warm else {
        let span = names::at(&function.sig.ident);
        return quote_spanned!(span=> .snapshot());
    };
    let span = names::at(warm);
    let p = args.facade.private(span);
    quote_spanned!(span=> .warm_snapshot(|| #p::warmed(#warm())))
}

/// Writes the settings. The one place that requires `IntoSettings` of the value, at its span.
fn settings(args: &EntryArgs, value: &Expr) -> TokenStream {
    let span = names::at(value);
    let p = args.facade.private(span);
    quote_spanned!(span=> #p::settings(#value))
}

fn flavor(args: &EntryArgs, runtime: &RuntimeArgs, function: &FunctionHead) -> Option<TokenStream> {
    let span = names::at(&function.sig.ident);
    let p = args.facade.private(span);
    let flavor = match runtime.flavor.as_ref()? {
        FlavorArg::CurrentThread => quote_spanned!(span=> #p::RuntimeFlavor::CurrentThread),
        FlavorArg::MultiThread { threads } => {
            let threads = match threads {
                Some(threads) => {
                    quote_spanned!(names::at(threads)=> ::core::option::Option::Some(#threads))
                }
                None => quote_spanned!(span=> ::core::option::Option::None),
            };
            quote_spanned!(span=> #p::RuntimeFlavor::MultiThread { threads: #threads })
        }
    };
    Some(flavor.into_token_stream())
}
