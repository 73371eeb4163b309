//! Each rule, violated once.

use proc_macro2::TokenStream;
use quote::quote;

use super::*;
use crate::args::{EntryArgs, ImplArgs, ProcessArgs, TraitArgs};
use crate::head::FunctionHead;

/// Returns the errors of a trait.
fn errors_of_trait(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    TraitArgs::parse(args, &mut errors);
    let item = syn::parse2(item).expect("the tokens are a trait");
    worker(&Worker::lower(&item, &mut errors), &mut errors);
    errors.sentences()
}

/// Returns the errors of a trait with these functions.
fn errors_of_functions(functions: TokenStream) -> Vec<String> {
    errors_of_trait(quote!(), quote!(trait Bank { #functions }))
}

fn errors_of_impl(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    ImplArgs::parse(args, &mut errors);
    let head = syn::parse2(item).expect("the tokens are an impl");
    implementation(&head, &mut errors);
    errors.sentences()
}

fn errors_of_main(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let args = EntryArgs::parse(args, &mut errors);
    main(&args, &syn::parse2(item).expect("the tokens are a function"), &mut errors);
    errors.sentences()
}

fn errors_of_test(item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let args = EntryArgs::parse_of_test(quote!(), &mut errors);
    test(&args, &syn::parse2(item).expect("the tokens are a function"), &mut errors);
    errors.sentences()
}

fn errors_of_process(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let args = ProcessArgs::parse(args, &mut errors);
    let head: FunctionHead = syn::parse2(item).expect("the tokens are a function");
    process(&head, &Function::of_process(args.function, &head), &mut errors);
    errors.sentences()
}

/// Asserts that there is one error, and that its text contains `words`.
#[track_caller]
fn assert_one_error(errors: &[String], words: &str) {
    assert!(
        matches!(errors, [error] if error.contains(words)),
        "expected one error with `{words}`, found {errors:#?}"
    );
}

#[test]
fn correct_trait_has_no_errors() {
    let errors = errors_of_functions(quote! {
        /// Puts money in.
        #[worker(id = "deposit")]
        async fn deposit(&self, cx: &Context<Account>, amount: u64, note: &str) -> u64;
        fn owner(self: &Self, names: &[String], at: &'_ Path) -> Result<Cow<'static, str>, Closed>;
        #[worker(result)]
        fn close_account(&self, codes: [u8; A & B]) -> Outcome<u64>;
        #[cfg(unix)]
        fn reach(&self, at: Descriptor);
        #[cfg(windows)]
        fn reach(&self, at: Handle);
        async fn ticks(&self, every: &Duration) -> Result<(u64, Pipe<Tick>), Closed>;
        #[worker(no_cancel)]
        async fn total(&self, numbers: Pipe<u64>, tiles: (u8, PipeWriter<Tile>)) -> u64;
        #[worker(one_way, id = "note")]
        async fn note(&self, lines: Pipe<String>) -> ();
    });

    assert_eq!(errors, [""; 0]);
}

#[test]
fn trait_with_qualifiers_or_generics_is_error() {
    assert_one_error(
        &errors_of_trait(
            quote!(),
            quote!(
                trait Bank<T> {}
            ),
        ),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_trait(
            quote!(),
            quote!(
                trait Bank
                where
                    Self: Sized,
                {
                }
            ),
        ),
        "must not have a where clause",
    );
    assert_one_error(
        &errors_of_trait(
            quote!(),
            quote!(
                unsafe trait Bank {}
            ),
        ),
        "must be safe",
    );
    assert_one_error(
        &errors_of_trait(quote!(), quote!(auto trait Bank {})),
        "must not be an auto trait",
    );
    assert_one_error(
        &errors_of_trait(
            quote!(),
            quote!(
                #[worker]
                trait Bank {}
            ),
        ),
        "must be used once per item",
    );
}

#[test]
fn supertraits_are_no_error() {
    assert_eq!(
        errors_of_trait(
            quote!(),
            quote!(
                trait Bank: Send + Sync {}
            )
        ),
        [""; 0]
    );
}

#[test]
fn trait_item_other_than_function_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            type Money;
        )),
        "must not have associated types",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            const FEE: u64;
        )),
        "must not have associated constants",
    );
    assert_one_error(&errors_of_functions(quote!(more!();)), "must consist of functions");
}

#[test]
fn receiver_other_than_shared_self_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f();
        )),
        "must take `&self`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(self);
        )),
        "must take `&self`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(mut self);
        )),
        "must take `&self`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&mut self);
        )),
        "must take `&self`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(self: Box<Self>);
        )),
        "must take `&self`",
    );
}

#[test]
fn qualified_or_generic_function_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            const fn f(&self);
        )),
        "must not be `const`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            unsafe fn f(&self);
        )),
        "must be safe",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            extern "C" fn f(&self);
        )),
        "must have the Rust ABI",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, more: ...);
        )),
        "a fixed number of arguments",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f<T>(&self);
        )),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f<const N: usize>(&self);
        )),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self)
            where
                Self: Sized;
        )),
        "must not have a where clause",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) {}
        )),
        "must not have a body",
    );
}

#[test]
fn lifetime_parameter_is_one_error_for_all_its_uses() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f<'a>(&self, a: &'a [&'a str]) -> &'a str;
        )),
        "lifetime parameters",
    );
}

#[test]
fn reserved_or_equal_names_are_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn r#close(&self);
        )),
        "must have a name that clients do not use",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn shutdown(&self);
        )),
        "must have a name that clients do not use",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn sum(&self);
            fn Sum(&self);
        )),
        "must differ in more than case",
    );
    let ids = quote!(
        #[worker(id = "a")]
        fn f(&self);
        #[worker(id = "a")]
        fn g(&self);
    );
    assert_one_error(&errors_of_functions(ids), "must have different ids");
}

#[test]
fn argument_with_pattern_or_cfg_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, (a, b): (u8, u8));
        )),
        "must be plain names",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, _: u8);
        )),
        "must be plain names",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, mut a: u8);
        )),
        "must be plain names",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, #[cfg(unix)] a: u8);
        )),
        "must not be conditional",
    );
}

#[test]
fn argument_that_borrows_inside_or_is_unsized_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &mut u8);
        )),
        "must not be borrowed as `&mut`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &[&str]);
        )),
        "must not borrow inside",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: Option<&str>);
        )),
        "must not borrow inside",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: Cow<'_, str>);
        )),
        "must not borrow inside",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &'static str);
        )),
        "without a lifetime",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: str);
        )),
        "must have a sized type",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: [u8]);
        )),
        "must have a sized type",
    );
}

#[test]
fn argument_without_one_known_type_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: impl Send);
        )),
        "must not be `impl Trait`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: Vec<Self>);
        )),
        "must not name `Self`",
    );
}

#[test]
fn borrowed_pipe_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &Pipe<u8>);
        )),
        "argument `a` must not borrow a `Pipe`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &'static mut PipeWriter<u8>);
        )),
        "argument `a` must not borrow a `PipeWriter`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &[(u8, Pipe<u8>)]);
        )),
        "argument `a` must not borrow a `Pipe`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: Pipe<&str>);
        )),
        "must not borrow inside",
    );
}

#[test]
fn trait_object_argument_is_error() {
    let object = "must not be a trait object";
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &(dyn Display + '_));
        )),
        object,
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: dyn Display);
        )),
        object,
    );
    assert_eq!(
        errors_of_functions(quote!(
            fn f(&self, a: Box<dyn Shape>);
        )),
        [""; 0]
    );
}

#[test]
fn pipe_that_carries_pipes_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> Pipe<Pipe<u8>>;
        )),
        "the `Pipe` in the result of worker function `f` must not carry a `Pipe`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: Option<PipeWriter<Vec<PipeWriter<u8>>>>);
        )),
        "the `PipeWriter` in argument `a` must not carry a `PipeWriter`",
    );
}

#[test]
fn borrowed_type_without_element_type_is_no_pipe() {
    let errors = errors_of_functions(quote!(
        fn f(&self, a: &Pipe, b: &std::io::PipeWriter) -> PipeWriter;
    ));

    assert_eq!(errors, [""; 0]);
}

#[test]
fn seventeenth_argument_is_error() {
    let arguments = |count| {
        let names = (0..count).map(|it| quote::format_ident!("a{it}"));
        quote!(fn f(&self, #(#names: u8),*);)
    };

    assert_eq!(errors_of_functions(arguments(16)), [""; 0]);
    assert_one_error(&errors_of_functions(arguments(17)), "at most 16 arguments");
}

#[test]
fn second_or_foreign_context_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &Context<A>, b: &Context<A>);
        )),
        "must have one context",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &mut Context<A>);
        )),
        "must be borrowed as `&`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self, a: &Context<'_>);
        )),
        "must be an `rpc_parallel::Context`",
    );
    let two = quote!(
        fn f(&self, a: &Context<A>);
        fn g(&self, a: &Context<B>);
    );
    assert_one_error(&errors_of_functions(two), "must have one context type");
}

#[test]
fn borrowed_or_unknown_result_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> &str;
        )),
        "must be owned",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> Option<&str>;
        )),
        "must be owned",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> impl Send;
        )),
        "must not be `impl Trait`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> Box<Self>;
        )),
        "must not name `Self`",
    );
}

#[test]
fn pipe_writer_in_result_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> PipeWriter<u8>;
        )),
        "must not hold a `PipeWriter`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            fn f(&self) -> Result<(u8, PipeWriter<u8>), Closed>;
        )),
        "must not hold a `PipeWriter`",
    );
}

#[test]
fn one_way_with_result_or_no_cancel_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(one_way)]
            fn f(&self) -> u8;
        )),
        "must not have a result",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(one_way)]
            fn f(&self) -> Result<(), Closed>;
        )),
        "must not have a result",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(one_way, result)]
            fn f(&self) -> Outcome<&str>;
        )),
        "must not have a result",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(one_way, no_cancel)]
            fn f(&self);
        )),
        "`no_cancel` must not be combined with `one_way`",
    );
}

#[test]
fn result_argument_without_result_is_error() {
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(result)]
            fn f(&self);
        )),
        "must return a `Result`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(result)]
            fn f(&self) -> (u8, u8);
        )),
        "must return a `Result`",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(result)]
            fn f(&self) -> Option<u8>;
        )),
        "must return a `Result`",
    );
}

#[test]
fn inherent_negative_or_generic_impl_is_error() {
    assert_one_error(&errors_of_impl(quote!(), quote!(impl Ledger {})), "not to an inherent impl");
    assert_one_error(
        &errors_of_impl(quote!(), quote!(impl !Bank for Ledger {})),
        "must not be applied to a negative impl",
    );
    assert_one_error(
        &errors_of_impl(
            quote!(),
            quote!(
                impl<T> Bank for Ledger<T> {}
            ),
        ),
        "without generics",
    );
    assert_one_error(
        &errors_of_impl(
            quote!(),
            quote!(
                #[worker]
                impl Bank for Ledger {}
            ),
        ),
        "must be used once per item",
    );
    let function = quote!(impl Bank for Ledger { #[worker(id = "f")] fn f(&self) {} });
    assert_one_error(&errors_of_impl(quote!(), function), "must be in the trait");
}

#[test]
fn unknown_repeated_or_malformed_argument_is_error() {
    let item = || {
        quote!(
            trait Bank {}
        )
    };
    assert_one_error(
        &errors_of_trait(quote!(name = "b"), item()),
        "`name` must be a known argument",
    );
    assert_one_error(
        &errors_of_trait(quote!(crate = a, crate = b), item()),
        "`crate` must be given once",
    );
    assert_one_error(&errors_of_trait(quote!(crate = "a"), item()), "`crate` must be a path");
    assert_one_error(&errors_of_trait(quote!(id = "b"), item()), "a trait has no id");
    assert_one_error(
        &errors_of_impl(quote!(client), quote!(impl Bank for Ledger {})),
        "`client` must be a path",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(id)]
            fn f(&self);
        )),
        "`id` must be a string",
    );
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(id = "")]
            fn f(&self);
        )),
        "`id` must not be empty",
    );
    let result = quote!(
        #[worker(result = true)]
        fn f(&self) -> Outcome;
    );
    assert_one_error(&errors_of_functions(result), "`result` must not have a value");
    let one_way = quote!(
        #[worker(one_way(true))]
        fn f(&self);
    );
    assert_one_error(&errors_of_functions(one_way), "`one_way` must not have a value");
    let no_cancel = quote!(
        #[worker(no_cancel)]
        #[worker(no_cancel)]
        fn f(&self);
    );
    assert_one_error(&errors_of_functions(no_cancel), "`no_cancel` must be given once");
    assert_one_error(
        &errors_of_functions(quote!(
            #[worker(async)]
            fn f(&self);
        )),
        "`async` must be a known argument",
    );
}

#[test]
fn main_with_unusable_signature_is_error() {
    assert_eq!(
        errors_of_main(
            quote!(),
            quote!(
                async fn main(args: Vec<String>) {}
            )
        ),
        [""; 0]
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                fn main(a: u8, b: u8) {}
            ),
        ),
        "one list of the program's arguments",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                fn main<T>(a: T) {}
            ),
        ),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                fn main(a: impl FromArgs) {}
            ),
        ),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                fn main(&self) {}
            ),
        ),
        "must be a free function",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                unsafe fn main() {}
            ),
        ),
        "must be a plain `fn`",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                fn other() {}
            ),
        ),
        "must be applied to the function `main`",
    );
    assert_one_error(
        &errors_of_main(
            quote!(),
            quote!(
                #[rpc_parallel::entry]
                fn main() {}
            ),
        ),
        "must be used once per item",
    );
}

#[test]
fn second_runtime_of_main_is_error() {
    let twice = quote!(
        #[tokio::main]
        async fn main() {}
    );
    assert_one_error(
        &errors_of_main(quote!(), twice),
        "must not be combined with `#[tokio::main]`",
    );
    assert_one_error(
        &errors_of_main(
            quote!(flavor = "current_thread"),
            quote!(
                fn main() {}
            ),
        ),
        "must be used with an async function",
    );
}

#[test]
fn unknown_runtime_arguments_are_error() {
    let main = || {
        quote!(
            async fn main() {}
        )
    };
    assert_eq!(errors_of_main(quote!(flavor = "multi_thread", threads = 2), main()), [""; 0]);
    assert_one_error(
        &errors_of_main(quote!(flavor = "many"), main()),
        "`current_thread` or `multi_thread`",
    );
    assert_one_error(
        &errors_of_main(quote!(threads = 2), main()),
        "must come with `flavor = \"multi_thread\"`",
    );
    assert_one_error(
        &errors_of_main(quote!(worker(threads = 2)), main()),
        "must come with `flavor = \"multi_thread\"`",
    );
    assert_one_error(
        &errors_of_main(quote!(worker(name = "w")), main()),
        "`name` must be a known argument",
    );
    assert_one_error(&errors_of_main(quote!(worker = "w"), main()), "`worker` must be a list");
    assert_one_error(
        &errors_of_main(quote!(settings), main()),
        "`settings` must be a value of type `Settings`",
    );
    assert_one_error(
        &errors_of_main(quote!(worker_logs), main()),
        "`worker_logs` must be `true` or `false`",
    );
    for snapshot in [quote!(snapshot = true), quote!(snapshot(load)), quote!(snapshot = load())] {
        assert_one_error(
            &errors_of_main(snapshot, main()),
            "`snapshot` must be alone, or the path of a function",
        );
    }
}

#[test]
fn snapshot_in_test_is_error() {
    let mut errors = Errors::default();

    EntryArgs::parse_of_test(quote!(snapshot), &mut errors);

    assert_one_error(&errors.sentences(), "`snapshot` must be on the `main` of a program");
}

#[test]
fn test_with_parameters_or_second_attribute_is_error() {
    assert_eq!(
        errors_of_test(quote!(
            #[should_panic]
            async fn fails() {}
        )),
        [""; 0]
    );
    assert_one_error(
        &errors_of_test(quote!(
            fn fails(a: u8) {}
        )),
        "must not have parameters",
    );
    assert_one_error(
        &errors_of_test(quote!(
            fn fails<T>() {}
        )),
        "must not be generic",
    );
    assert_one_error(
        &errors_of_test(quote!(
            #[test]
            fn fails() {}
        )),
        "must not be combined with `#[test]`",
    );
    assert_one_error(
        &errors_of_test(quote!(
            #[tokio::test]
            async fn fails() {}
        )),
        "must not be combined with `#[tokio::test]`",
    );
}

#[test]
fn correct_process_functions_have_no_errors() {
    let functions = [
        quote!(
            fn score() {}
        ),
        quote!(
            pub(crate) async fn score(page: &str, mut words: Vec<u64>, (a, b): (u8, u8)) -> u64 {}
        ),
        quote!(
            fn score(tiles: Pipe<u8>, out: PipeWriter<u8>) -> Result<(u8, Pipe<u8>), AnyError> {}
        ),
        // rustc reports these.
        quote!(
            fn score(page: str, words: [u8], me: Self) -> Self {}
        ),
    ];

    for function in functions {
        assert_eq!(errors_of_process(quote!(id = "score"), function), [""; 0]);
    }
}

#[test]
fn process_function_that_is_no_free_function_is_error() {
    let cases = [
        (
            quote!(
                fn score(&self) {}
            ),
            "must be a free function",
        ),
        (
            quote!(
                fn score(page: &str);
            ),
            "must have a body",
        ),
        (
            quote!(
                fn main() {}
            ),
            "must not be applied to `main`",
        ),
        (
            quote!(
                fn score(cx: &Context<u8>) {}
            ),
            "must not take a `Context`",
        ),
        (
            quote!(
                #[process]
                fn score() {}
            ),
            "must be used once per item",
        ),
    ];

    for (function, words) in cases {
        assert_one_error(&errors_of_process(quote!(), function), words);
    }
}

#[test]
fn unknown_argument_of_process_attribute_is_error() {
    let function = quote!(
        fn score() {}
    );

    assert_one_error(
        &errors_of_process(quote!(no_cancel), function),
        "`no_cancel` must be a known argument of `#[process]`",
    );
}
