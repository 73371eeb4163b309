//! A test, registered by its name. A test executable becomes a worker by running a registered test.

use proc_macro2::TokenStream;
use quote::quote_spanned;

use crate::args::EntryArgs;
use crate::head::FunctionHead;
use crate::names;

use super::entry::entry_value;

/// Writes the test.
// Input: #[should_panic] async fn fails() { .. }
// Output: #[test] #[should_panic] fn fails() {
//     async fn fails() { .. }
//     const __TEST: P::Test =
//         P::Test::new(concat!(module_path!(), "::", "fails"), || P::Entry::new());
//     P::register_test! { __TEST }
//     __TEST.run_async(|| fails())
// }
pub(crate) fn test(args: &EntryArgs, function: &FunctionHead) -> TokenStream {
    let name = &function.sig.ident;
    let span = names::at(name);
    let p = args.facade.private(span);
    let (attrs, vis, output) = (&function.attrs, &function.vis, &function.sig.output);
    let written = function.bare();
    let entry = entry_value(args, function);
    let run = if function.sig.asyncness.is_some() {
        quote_spanned!(span=> run_async)
    } else {
        quote_spanned!(span=> run_sync)
    };
    let text = name.to_string();
    let path = quote_spanned!(span=> ::core::concat!(::core::module_path!(), "::", #text));
    quote_spanned! {span=>
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #output {
            #written
            const __TEST: #p::Test = #p::Test::new(#path, || #entry);
            #p::register_test! { __TEST }
            __TEST.#run(|| #name())
        }
    }
}
