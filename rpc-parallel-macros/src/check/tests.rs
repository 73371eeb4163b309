//! Each rule, broken once.

use proc_macro2::TokenStream;
use quote::quote;

use super::*;
use crate::args::TraitArgs;

/// What is said about a trait.
fn of_trait(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    TraitArgs::parse(args, &mut errors);
    let item = syn::parse2(item).expect("this is a trait");
    worker(&Worker::lower(&item, &mut errors), &mut errors);
    errors.sentences()
}

/// What is said about a trait with these functions.
fn of_functions(functions: TokenStream) -> Vec<String> {
    of_trait(quote!(), quote!(trait Bank { #functions }))
}

fn of_impl(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    crate::args::ImplArgs::parse(args, &mut errors);
    let mut head = syn::parse2(item).expect("this is an impl");
    implementation(&mut head, &mut errors);
    errors.sentences()
}

fn of_main(args: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let args = EntryArgs::parse(args, "`#[entry]`", &mut errors);
    main(&args, &syn::parse2(item).expect("this is a function"), &mut errors);
    errors.sentences()
}

fn of_test(item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let args = EntryArgs::parse(quote!(), "`#[test]`", &mut errors);
    test(&args, &syn::parse2(item).expect("this is a function"), &mut errors);
    errors.sentences()
}

/// Checks that one thing is said, and that it contains these words.
#[track_caller]
fn one(said: &[String], words: &str) {
    assert!(
        matches!(said, [it] if it.contains(words)),
        "not one sentence with `{words}`: {said:#?}"
    );
}

#[test]
fn a_right_trait_is_left_alone() {
    let said = of_functions(quote! {
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

    assert_eq!(said, [""; 0]);
}

#[test]
fn the_head_of_a_trait_is_plain() {
    one(
        &of_trait(
            quote!(),
            quote!(
                trait Bank<T> {}
            ),
        ),
        "must not be generic",
    );
    one(
        &of_trait(
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
    one(
        &of_trait(
            quote!(),
            quote!(
                unsafe trait Bank {}
            ),
        ),
        "must be safe",
    );
    one(&of_trait(quote!(), quote!(auto trait Bank {})), "must not be an auto trait");
    one(
        &of_trait(
            quote!(),
            quote!(
                #[worker]
                trait Bank {}
            ),
        ),
        "must stand here once",
    );
}

#[test]
fn supertraits_are_allowed() {
    assert_eq!(
        of_trait(
            quote!(),
            quote!(
                trait Bank: Send + Sync {}
            )
        ),
        [""; 0]
    );
}

#[test]
fn a_trait_has_functions_only() {
    one(
        &of_functions(quote!(
            type Money;
        )),
        "must not have associated types",
    );
    one(
        &of_functions(quote!(
            const FEE: u64;
        )),
        "must not have associated constants",
    );
    one(&of_functions(quote!(more!();)), "must consist of functions");
}

#[test]
fn a_function_takes_a_shared_self() {
    one(
        &of_functions(quote!(
            fn f();
        )),
        "must take `&self`",
    );
    one(
        &of_functions(quote!(
            fn f(self);
        )),
        "must take `&self`",
    );
    one(
        &of_functions(quote!(
            fn f(mut self);
        )),
        "must take `&self`",
    );
    one(
        &of_functions(quote!(
            fn f(&mut self);
        )),
        "must take `&self`",
    );
    one(
        &of_functions(quote!(
            fn f(self: Box<Self>);
        )),
        "must take `&self`",
    );
}

#[test]
fn a_function_is_plain() {
    one(
        &of_functions(quote!(
            const fn f(&self);
        )),
        "must not be `const`",
    );
    one(
        &of_functions(quote!(
            unsafe fn f(&self);
        )),
        "must be safe",
    );
    one(
        &of_functions(quote!(
            extern "C" fn f(&self);
        )),
        "must be an ordinary function",
    );
    one(
        &of_functions(quote!(
            fn f(&self, more: ...);
        )),
        "a fixed number of arguments",
    );
    one(
        &of_functions(quote!(
            fn f<T>(&self);
        )),
        "must not be generic",
    );
    one(
        &of_functions(quote!(
            fn f<const N: usize>(&self);
        )),
        "must not be generic",
    );
    one(
        &of_functions(quote!(
            fn f(&self)
            where
                Self: Sized;
        )),
        "must not have a where clause",
    );
    one(
        &of_functions(quote!(
            fn f(&self) {}
        )),
        "must not have a body",
    );
}

#[test]
fn lifetime_parameters_are_one_mistake_wherever_they_are_used() {
    one(
        &of_functions(quote!(
            fn f<'a>(&self, a: &'a [&'a str]) -> &'a str;
        )),
        "lifetime parameters",
    );
}

#[test]
fn names_do_not_clash() {
    one(
        &of_functions(quote!(
            fn close(&self);
        )),
        "must have a name that clients leave free",
    );
    one(
        &of_functions(quote!(
            fn sum(&self);
            fn Sum(&self);
        )),
        "must differ beyond case",
    );
    let ids = quote!(
        #[worker(id = "a")]
        fn f(&self);
        #[worker(id = "a")]
        fn g(&self);
    );
    one(&of_functions(ids), "must have different ids");
}

#[test]
fn an_argument_has_a_name_and_is_always_there() {
    one(
        &of_functions(quote!(
            fn f(&self, (a, b): (u8, u8));
        )),
        "must be plain names",
    );
    one(
        &of_functions(quote!(
            fn f(&self, _: u8);
        )),
        "must be plain names",
    );
    one(
        &of_functions(quote!(
            fn f(&self, mut a: u8);
        )),
        "must be plain names",
    );
    one(
        &of_functions(quote!(
            fn f(&self, #[cfg(unix)] a: u8);
        )),
        "must always be there",
    );
}

#[test]
fn an_argument_is_owned_or_borrowed_as_a_whole() {
    one(
        &of_functions(quote!(
            fn f(&self, a: &mut u8);
        )),
        "must not be borrowed as `&mut`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &[&str]);
        )),
        "must not borrow inside",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: Option<&str>);
        )),
        "must not borrow inside",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: Cow<'_, str>);
        )),
        "must not borrow inside",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &'static str);
        )),
        "without a lifetime",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: str);
        )),
        "must be borrowed or owned",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: [u8]);
        )),
        "must be borrowed or owned",
    );
}

#[test]
fn an_argument_has_one_known_type() {
    one(
        &of_functions(quote!(
            fn f(&self, a: impl Send);
        )),
        "must not be `impl Trait`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: Vec<Self>);
        )),
        "must not name `Self`",
    );
}

#[test]
fn a_pipe_moves_to_the_worker() {
    one(
        &of_functions(quote!(
            fn f(&self, a: &Pipe<u8>);
        )),
        "argument `a` must not borrow a `Pipe`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &'static mut PipeWriter<u8>);
        )),
        "argument `a` must not borrow a `PipeWriter`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &[(u8, Pipe<u8>)]);
        )),
        "argument `a` must not borrow a `Pipe`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: Pipe<&str>);
        )),
        "must not borrow inside",
    );
}

#[test]
fn what_is_only_called_like_a_pipe_may_be_borrowed() {
    let said = of_functions(quote!(
        fn f(&self, a: &Pipe, b: &std::io::PipeWriter) -> PipeWriter;
    ));

    assert_eq!(said, [""; 0]);
}

#[test]
fn sixteen_arguments_are_the_most() {
    let arguments = |count| {
        let names = (0..count).map(|it| quote::format_ident!("a{it}"));
        quote!(fn f(&self, #(#names: u8),*);)
    };

    assert_eq!(of_functions(arguments(16)), [""; 0]);
    one(&of_functions(arguments(17)), "at most 16 arguments");
}

#[test]
fn a_context_is_ours_and_there_is_one() {
    one(
        &of_functions(quote!(
            fn f(&self, a: &Context<A>, b: &Context<A>);
        )),
        "must have one context",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &mut Context<A>);
        )),
        "must be borrowed as `&`",
    );
    one(
        &of_functions(quote!(
            fn f(&self, a: &Context<'_>);
        )),
        "must be rpc-parallel's",
    );
    let two = quote!(
        fn f(&self, a: &Context<A>);
        fn g(&self, a: &Context<B>);
    );
    one(&of_functions(two), "must have one context, written alike");
}

#[test]
fn a_result_is_owned_and_has_one_known_type() {
    one(
        &of_functions(quote!(
            fn f(&self) -> &str;
        )),
        "must be owned",
    );
    one(
        &of_functions(quote!(
            fn f(&self) -> Option<&str>;
        )),
        "must be owned",
    );
    one(
        &of_functions(quote!(
            fn f(&self) -> impl Send;
        )),
        "must not be `impl Trait`",
    );
    one(
        &of_functions(quote!(
            fn f(&self) -> Box<Self>;
        )),
        "must not name `Self`",
    );
}

#[test]
fn a_result_holds_pipes_but_not_their_writers() {
    one(
        &of_functions(quote!(
            fn f(&self) -> PipeWriter<u8>;
        )),
        "must not hold a `PipeWriter`",
    );
    one(
        &of_functions(quote!(
            fn f(&self) -> Result<(u8, PipeWriter<u8>), Closed>;
        )),
        "must not hold a `PipeWriter`",
    );
}

#[test]
fn a_one_way_function_answers_nothing_and_is_never_cancelled() {
    one(
        &of_functions(quote!(
            #[worker(one_way)]
            fn f(&self) -> u8;
        )),
        "must not have a result",
    );
    one(
        &of_functions(quote!(
            #[worker(one_way)]
            fn f(&self) -> Result<(), Closed>;
        )),
        "must not have a result",
    );
    one(
        &of_functions(quote!(
            #[worker(one_way, result)]
            fn f(&self) -> Outcome<&str>;
        )),
        "must not have a result",
    );
    one(
        &of_functions(quote!(
            #[worker(one_way, no_cancel)]
            fn f(&self);
        )),
        "`no_cancel` must not stand beside `one_way`",
    );
}

#[test]
fn only_a_result_is_one() {
    one(
        &of_functions(quote!(
            #[worker(result)]
            fn f(&self);
        )),
        "must return a `Result`",
    );
    one(
        &of_functions(quote!(
            #[worker(result)]
            fn f(&self) -> (u8, u8);
        )),
        "must return a `Result`",
    );
    one(
        &of_functions(quote!(
            #[worker(result)]
            fn f(&self) -> Option<u8>;
        )),
        "must return a `Result`",
    );
}

#[test]
fn an_impl_is_of_a_trait_for_one_type() {
    one(&of_impl(quote!(), quote!(impl Ledger {})), "not on a type's own impl");
    one(&of_impl(quote!(), quote!(impl !Bank for Ledger {})), "an impl that has functions");
    one(
        &of_impl(
            quote!(),
            quote!(
                impl<T> Bank for Ledger<T> {}
            ),
        ),
        "without generics",
    );
    one(
        &of_impl(
            quote!(),
            quote!(
                #[worker]
                impl Bank for Ledger {}
            ),
        ),
        "must stand here once",
    );
    let function = quote!(impl Bank for Ledger { #[worker(id = "f")] fn f(&self) {} });
    one(&of_impl(quote!(), function), "must stand in the trait");
}

#[test]
fn arguments_of_attributes_are_known_and_given_once() {
    let item = || {
        quote!(
            trait Bank {}
        )
    };
    one(&of_trait(quote!(name = "b"), item()), "`name` must be a known argument");
    one(&of_trait(quote!(crate = a, crate = b), item()), "`crate` must be given once");
    one(&of_trait(quote!(crate = "a"), item()), "`crate` must be a path");
    one(&of_trait(quote!(id = "b"), item()), "a trait has no id");
    one(&of_impl(quote!(client), quote!(impl Bank for Ledger {})), "`client` must be a path");
    one(
        &of_functions(quote!(
            #[worker(id)]
            fn f(&self);
        )),
        "`id` must be a string",
    );
    one(
        &of_functions(quote!(
            #[worker(id = "")]
            fn f(&self);
        )),
        "`id` must not be empty",
    );
    let result = quote!(
        #[worker(result = true)]
        fn f(&self) -> Outcome;
    );
    one(&of_functions(result), "`result` must stand alone");
    let one_way = quote!(
        #[worker(one_way(true))]
        fn f(&self);
    );
    one(&of_functions(one_way), "`one_way` must stand alone");
    let no_cancel = quote!(
        #[worker(no_cancel)]
        #[worker(no_cancel)]
        fn f(&self);
    );
    one(&of_functions(no_cancel), "`no_cancel` must be given once");
    one(
        &of_functions(quote!(
            #[worker(async)]
            fn f(&self);
        )),
        "`async` must be a known argument",
    );
}

#[test]
fn a_main_takes_at_most_a_list_of_arguments() {
    assert_eq!(
        of_main(
            quote!(),
            quote!(
                async fn main(args: Vec<String>) {}
            )
        ),
        [""; 0]
    );
    one(
        &of_main(
            quote!(),
            quote!(
                fn main(a: u8, b: u8) {}
            ),
        ),
        "one list of the program's arguments",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                fn main<T>(a: T) {}
            ),
        ),
        "must not be generic",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                fn main(a: impl FromArgs) {}
            ),
        ),
        "must not be generic",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                fn main(&self) {}
            ),
        ),
        "must be a free function",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                unsafe fn main() {}
            ),
        ),
        "must be a plain `fn`",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                fn other() {}
            ),
        ),
        "must stand on the function `main`",
    );
    one(
        &of_main(
            quote!(),
            quote!(
                #[rpc_parallel::entry]
                fn main() {}
            ),
        ),
        "must stand here once",
    );
}

#[test]
fn a_main_has_one_runtime() {
    let twice = quote!(
        #[tokio::main]
        async fn main() {}
    );
    one(&of_main(quote!(), twice), "without `#[tokio::main]`");
    let expanded = quote!(
        fn main() {
            build().expect("Failed building the Runtime")
        }
    );
    one(&of_main(quote!(), expanded), "without `#[tokio::main]`");
    one(
        &of_main(
            quote!(flavor = "current_thread"),
            quote!(
                fn main() {}
            ),
        ),
        "on an async function",
    );
}

#[test]
fn a_runtime_is_one_of_two() {
    let main = || {
        quote!(
            async fn main() {}
        )
    };
    assert_eq!(of_main(quote!(flavor = "multi_thread", threads = 2), main()), [""; 0]);
    one(&of_main(quote!(flavor = "many"), main()), "`current_thread` or `multi_thread`");
    one(&of_main(quote!(threads = 2), main()), "must come with `flavor = \"multi_thread\"`");
    one(
        &of_main(quote!(worker(threads = 2)), main()),
        "must come with `flavor = \"multi_thread\"`",
    );
    one(&of_main(quote!(worker(name = "w")), main()), "`name` must be a known argument");
    one(&of_main(quote!(worker = "w"), main()), "`worker` must be a list");
    one(&of_main(quote!(settings), main()), "`settings` must be a value of type `Settings`");
    one(&of_main(quote!(worker_logs), main()), "`worker_logs` must be `true` or `false`");
}

#[test]
fn a_test_takes_nothing_and_is_a_test_once() {
    assert_eq!(
        of_test(quote!(
            #[should_panic]
            async fn fails() {}
        )),
        [""; 0]
    );
    one(
        &of_test(quote!(
            fn fails(a: u8) {}
        )),
        "must not have parameters",
    );
    one(
        &of_test(quote!(
            fn fails<T>() {}
        )),
        "must not be generic",
    );
    one(
        &of_test(quote!(
            #[test]
            fn fails() {}
        )),
        "without `#[test]`",
    );
    one(
        &of_test(quote!(
            #[tokio::test]
            async fn fails() {}
        )),
        "without `#[tokio::test]`",
    );
}
