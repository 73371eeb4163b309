//! A test that knows its own name: a test binary becomes a worker by running one of its tests.

use proc_macro2::TokenStream;
use quote::quote_spanned;

use crate::args::EntryArgs;
use crate::head::FunctionHead;
use crate::names;

use super::entry::settings;

// Input: #[should_panic] async fn fails() { .. }
// Output: #[test] #[should_panic] fn fails() {
//     async fn fails() { .. }
//     P::Entry::new().test_async(concat!(module_path!(), "::", "fails"), || fails())
// }
pub(crate) fn test(args: &EntryArgs, function: &FunctionHead) -> TokenStream {
    let name = &function.sig.ident;
    let span = names::at(name);
    let (attrs, vis, output) = (&function.attrs, &function.vis, &function.sig.output);
    let written = function.bare();
    let settings = settings(args, function);
    let run = if function.sig.asyncness.is_some() {
        quote_spanned!(span=> test_async)
    } else {
        quote_spanned!(span=> test_sync)
    };
    let text = name.to_string();
    let path = quote_spanned!(span=> ::core::concat!(::core::module_path!(), "::", #text));
    quote_spanned! {span=>
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #output {
            #written
            #settings.#run(#path, || #name())
        }
    }
}
