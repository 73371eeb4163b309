//! Expansions: one feature in each test, on the smallest item that has it.

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::*;
use crate::args::{EntryArgs, ImplArgs, ProcessArgs, StateArgs};
use crate::errors::Errors;
use crate::head::{FunctionHead, ImplHead};
use crate::model::Function;
use crate::names::Facade;

#[expect(clippy::needless_pass_by_value, reason = "`expect!` makes a value")]
fn check(tokens: TokenStream, expected: Expect) {
    let file = syn::parse2(tokens).expect("expansions are Rust");
    // The path of the default facade would only make the expected text long.
    let text = prettyplease::unparse(&file).replace("::rpc_parallel::__private::", "P::");
    expected.assert_eq(&text);
}

/// Returns a part of the expansion of a trait.
fn of_trait(item: TokenStream, part: fn(&Facade, &Worker) -> TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let item = syn::parse2(item).expect("the tokens are a trait");
    part(&Facade::new(None), &Worker::lower(&item, &mut errors))
}

fn types(facade: &Facade, worker: &Worker) -> TokenStream {
    let results = worker.functions.iter().map(|it| declares::result(facade, it));
    let codecs = worker.functions.iter().map(|it| declares::codecs(facade, it));
    quote!(#(impl Declares { #codecs #results })*)
}

fn infos(facade: &Facade, worker: &Worker) -> TokenStream {
    let infos = worker.functions.iter().map(|it| declares::info(facade, worker, it));
    let place = facade.source_location(proc_macro2::Span::call_site()).to_string();
    let infos = quote!(const INFOS: () = (#(#infos),*);).to_string().replace(&place, "PLACE");
    infos.parse().expect("the text was tokens before")
}

fn of_main(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = EntryArgs::parse(args, &mut errors);
    entry(&args, &syn::parse2(item).expect("the tokens are a function"))
}

/// Returns what is beside a process function.
fn of_process(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = ProcessArgs::parse(args, &mut errors);
    let head: FunctionHead = syn::parse2(item).expect("the tokens are a function");
    let function = Function::of_process(args.function, &head);
    let place = args.facade.source_location(proc_macro2::Span::call_site()).to_string();
    let written = process(&args.facade, &head.vis, &function).to_string().replace(&place, "PLACE");
    written.parse().expect("the text was tokens before")
}

#[test]
fn async_function_becomes_fn_returning_send_future() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    async fn owner(&self) -> String;
                }
            ),
            |_, it| declaration(it),
        ),
        expect![[r#"
            trait Bank {
                fn owner(
                    &self,
                ) -> impl ::core::future::Future<Output = String> + ::core::marker::Send
                where
                    Self: ::core::marker::Sync;
            }
        "#]],
    );
}

#[test]
fn async_function_without_result_returns_unit_future() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    async fn audit(&self);
                }
            ),
            |_, it| declaration(it),
        ),
        expect![[r#"
            trait Bank {
                fn audit(&self) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send
                where
                    Self: ::core::marker::Sync;
            }
        "#]],
    );
}

#[test]
fn declaration_drops_our_attributes_and_keeps_others() {
    check(
        of_trait(
            quote!(
                /// A bank.
                pub trait Bank: Send {
                    /// Audits.
                    #[worker(id = "audit")]
                    #[cfg(unix)]
                    fn audit(&self);
                }
            ),
            |_, it| declaration(it),
        ),
        expect![[r#"
            /// A bank.
            pub trait Bank: Send {
                /// Audits.
                #[cfg(unix)]
                fn audit(&self);
            }
        "#]],
    );
}

#[test]
fn client_has_constant_and_function_for_each_function() {
    check(
        of_trait(
            quote!(
                pub trait Bank {
                    fn audit(&self);
                }
            ),
            client::functions,
        ),
        expect![[r##"
            #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
            type __audit = ([(); 0usize], fn());
            #[allow(
                dead_code,
                private_interfaces,
                clippy::impl_trait_in_params,
                reason = "a program may call some functions only; rustc checks the types in the trait"
            )]
            impl BankClient {
                ///The function [`audit`](Self::audit) as a value.
                pub const AUDIT: P::DeclaredFunction<Self, __audit> = P::DeclaredFunction::NEW;
                ///Calls [`audit`](Bank::audit).
                pub fn audit(&self) -> P::Call<()> {
                    P::call::<Self, __audit>(self, ())
                }
            }
        "##]],
    );
}

#[test]
fn client_passes_arguments_by_reference_without_context() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put(&self, amount: u64, cx: &Context<Account>, note: &str);
                }
            ),
            client::functions,
        ),
        expect![[r##"
            #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
            type __put = ([(); 0usize], fn(u64, &str));
            #[allow(
                dead_code,
                private_interfaces,
                clippy::impl_trait_in_params,
                reason = "a program may call some functions only; rustc checks the types in the trait"
            )]
            impl BankClient {
                ///The function [`put`](Self::put) as a value.
                const PUT: P::DeclaredFunction<Self, __put> = P::DeclaredFunction::NEW;
                ///Calls [`put`](Bank::put).
                fn put(&self, amount: u64, note: &str) -> P::Call<()> {
                    P::call::<Self, __put>(self, (&amount, note))
                }
            }
        "##]],
    );
}

#[test]
fn client_takes_any_stream_for_pipe_argument() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put_all(&self, r#in: Pipe<u64>, note: &str, more: Option<Pipe<u64>>);
                }
            ),
            client::functions,
        ),
        expect![[r##"
            #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
            type __put_all = ([(); 0usize], fn(Pipe<u64>, &str, Option<Pipe<u64>>));
            #[allow(
                dead_code,
                private_interfaces,
                clippy::impl_trait_in_params,
                reason = "a program may call some functions only; rustc checks the types in the trait"
            )]
            impl BankClient {
                ///The function [`put_all`](Self::put_all) as a value.
                const PUT_ALL: P::DeclaredFunction<Self, __put_all> = P::DeclaredFunction::NEW;
                ///Calls [`put_all`](Bank::put_all).
                fn put_all(
                    &self,
                    r#in: impl P::IntoPipe<u64>,
                    note: &str,
                    more: Option<Pipe<u64>>,
                ) -> P::Call<()> {
                    P::call::<
                        Self,
                        __put_all,
                    >(self, (&P::IntoPipe::into_pipe(r#in), note, &more))
                }
            }
        "##]],
    );
}

#[test]
fn fallible_function_returns_try_call() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn audit(&self) -> Result<u64, Fraud>;
                }
            ),
            client::functions,
        ),
        expect![[r##"
            #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
            type __audit = ([(); 0usize], fn() -> Result<u64, Fraud>);
            #[allow(
                dead_code,
                private_interfaces,
                clippy::impl_trait_in_params,
                reason = "a program may call some functions only; rustc checks the types in the trait"
            )]
            impl BankClient {
                ///The function [`audit`](Self::audit) as a value.
                const AUDIT: P::DeclaredFunction<Self, __audit> = P::DeclaredFunction::NEW;
                ///Calls [`audit`](Bank::audit).
                fn audit(&self) -> P::TryCall<Result<u64, Fraud>> {
                    P::call::<Self, __audit>(self, ())
                }
            }
        "##]],
    );
}

#[test]
fn client_function_keeps_attributes_of_worker_function() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    /// Audits.
                    #[cfg(unix)]
                    #[deprecated = "use another"]
                    #[expect(clippy::too_many_arguments)]
                    #[worker(id = "audit")]
                    fn r#loop(&self);
                }
            ),
            client::functions,
        ),
        expect![[r##"
            #[cfg(unix)]
            #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
            type __loop = ([(); 0usize], fn());
            #[allow(
                dead_code,
                private_interfaces,
                clippy::impl_trait_in_params,
                reason = "a program may call some functions only; rustc checks the types in the trait"
            )]
            impl BankClient {
                ///The function `loop` as a value.
                #[cfg(unix)]
                const LOOP: P::DeclaredFunction<Self, __loop> = P::DeclaredFunction::NEW;
                /// Audits.
                #[cfg(unix)]
                #[deprecated = "use another"]
                #[allow(clippy::too_many_arguments)]
                fn r#loop(&self) -> P::Call<()> {
                    P::call::<Self, __loop>(self, ())
                }
            }
        "##]],
    );
}

#[test]
fn codec_of_borrowed_argument_is_for_type_behind_borrow() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put(&self, amount: u64, note: &str) -> u64;
                }
            ),
            types,
        ),
        expect![[r#"
            impl Declares {
                type Codecs = (
                    P::Codec<u64>,
                    P::Codec<str>,
                );
                const CODECS: Self::Codecs = (
                    P::codec::<u64>(),
                    P::codec::<str>(),
                );
                type Returns = u64;
                type Output = u64;
                type Error = P::CallError;
                const ANSWER: P::Answer<
                    Self::Returns,
                    Self::Output,
                    Self::Error,
                > = P::plain(P::codec::<u64>());
            }
        "#]],
    );
}

#[test]
fn owned_context_has_codec_of_its_own() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put(&self, cx: Context<Account>);
                }
            ),
            types,
        ),
        expect![[r#"
            impl Declares {
                type Codecs = (P::Codec<Context<Account>>,);
                const CODECS: Self::Codecs = (
                    P::context_codec::<Context<Account>>(),
                );
                type Returns = ();
                type Output = ();
                type Error = P::CallError;
                const ANSWER: P::Answer<
                    Self::Returns,
                    Self::Output,
                    Self::Error,
                > = P::plain(P::codec::<()>());
            }
        "#]],
    );
}

#[test]
fn codec_of_pipe_bounds_its_elements() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put_all(&self, all: Pipe<u64>, notes: PipeWriter<Note>) -> Pipe<Receipt>;
                }
            ),
            types,
        ),
        expect![[r#"
            impl Declares {
                type Codecs = (
                    P::Codec<P::Pipe<u64>>,
                    P::Codec<PipeWriter<Note>>,
                );
                const CODECS: Self::Codecs = (
                    P::pipe_codec::<u64>(),
                    P::writer_codec::<Note>(),
                );
                type Returns = Pipe<Receipt>;
                type Output = Pipe<Receipt>;
                type Error = P::CallError;
                const ANSWER: P::Answer<
                    Self::Returns,
                    Self::Output,
                    Self::Error,
                > = P::plain(
                    P::pipe_codec::<Receipt>(),
                );
            }
        "#]],
    );
}

#[test]
fn result_has_codecs_for_ok_and_err() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn audit(&self) -> Result<u64, Fraud>;
                }
            ),
            types,
        ),
        expect![[r#"
            impl Declares {
                type Codecs = ();
                const CODECS: Self::Codecs = ();
                type Returns = Result<u64, Fraud>;
                type Output = <Result<u64, Fraud> as P::IsResult>::Ok;
                type Error = P::FunctionError<
                    <Result<u64, Fraud> as P::IsResult>::Err,
                >;
                const ANSWER: P::Answer<
                    Self::Returns,
                    Self::Output,
                    Self::Error,
                > = P::fallible(
                    P::codec::<
                        <<Self as P::Declares<
                            __audit,
                        >>::Returns as P::IsResult>::Ok,
                    >(),
                    P::error_codec::<
                        <<Self as P::Declares<
                            __audit,
                        >>::Returns as P::IsResult>::Err,
                    >(),
                );
            }
        "#]],
    );
}

#[test]
fn alias_with_result_argument_is_fallible() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    #[worker(result)]
                    fn audit(&self) -> Audit;
                }
            ),
            types,
        ),
        expect![[r#"
            impl Declares {
                type Codecs = ();
                const CODECS: Self::Codecs = ();
                type Returns = Audit;
                type Output = <Audit as P::IsResult>::Ok;
                type Error = P::FunctionError<
                    <Audit as P::IsResult>::Err,
                >;
                const ANSWER: P::Answer<
                    Self::Returns,
                    Self::Output,
                    Self::Error,
                > = P::fallible(
                    P::codec::<
                        <<Self as P::Declares<
                            __audit,
                        >>::Returns as P::IsResult>::Ok,
                    >(),
                    P::error_codec::<
                        <<Self as P::Declares<
                            __audit,
                        >>::Returns as P::IsResult>::Err,
                    >(),
                );
            }
        "#]],
    );
}

#[test]
fn id_is_computed_from_signature_unless_given() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    #[worker(id = "deposit")]
                    fn put(&self, cx: &Context<Account>, amount: u64, notes: &[String]) -> Vec<u8>;
                    fn audit(&self);
                }
            ),
            infos,
        ),
        expect![[r#"
            const INFOS: () = (
                P::FunctionInfo::new(
                        "put",
                        "Bank",
                        PLACE,
                        "u64,&[String]",
                        "Vec<u8>",
                    )
                    .with_id("deposit"),
                P::FunctionInfo::new("audit", "Bank", PLACE, "", "()"),
            );
        "#]],
    );
}

#[test]
fn flags_of_function_follow_its_id() {
    check(
        of_trait(
            quote!(
                trait Log {
                    #[worker(one_way)]
                    fn note(&self);
                    #[worker(no_cancel, id = "flush")]
                    fn flush(&self);
                }
            ),
            infos,
        ),
        expect![[r#"
            const INFOS: () = (
                P::FunctionInfo::new("note", "Log", PLACE, "", "()")
                    .one_way(),
                P::FunctionInfo::new("flush", "Log", PLACE, "", "()")
                    .with_id("flush")
                    .no_cancel(),
            );
        "#]],
    );
}

#[test]
fn dispatch_calls_each_function_with_its_parameters() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    async fn put(&self, amount: u64, cx: &Context<Account>, note: &str);
                    fn audit(&self);
                    #[cfg(unix)]
                    #[deprecated]
                    fn close_all(&self, cx: &Context<Account>, accounts: Pipe<u64>);
                }
            ),
            dispatch::dispatch,
        ),
        expect![[r##"
            #[allow(deprecated, reason = "callers get the warning")]
            #[automatically_derived]
            impl<__S> P::Dispatch<__S> for BankClient
            where
                __S: Bank + P::OneWorkerTraitPerType,
            {
                const TABLE: P::Table<__S, Self> = &[
                    &P::asynchronous::<
                        Self,
                        __put,
                        __S,
                    >(|__scope, (__a0, __a2)| P::boxed(async move {
                            <__S as Bank>::put(
                                    __scope.state(),
                                    __a0,
                                    P::context::<
                                        Context<Account>,
                                        _,
                                    >(__scope.context()),
                                    &__a2,
                                )
                                .await
                        }))
                        .takes_context(),
                    &P::synchronous::<
                        Self,
                        __audit,
                        __S,
                    >(|__scope, ()| <__S as Bank>::audit(__scope.state())),
                    #[cfg(unix)]
                    &P::synchronous::<
                        Self,
                        __close_all,
                        __S,
                    >(|__scope, (__a1,)| <__S as Bank>::close_all(
                            __scope.state(),
                            P::context::<
                                Context<Account>,
                                _,
                            >(__scope.context()),
                            __a1,
                        ))
                        .takes_context(),
                ];
            }
        "##]],
    );
}

#[test]
fn stand_in_has_all_promised_names() {
    check(
        of_trait(
            quote!(
                trait Bank {
                    fn put(&mut self, amount: u64);
                    fn sum<T>(&self, all: Vec<T>);
                }
            ),
            |_, it| {
                let args = TraitArgs { facade: Facade::new(Some(syn::parse_quote!(rp))) };
                let place = args.facade.source_location(proc_macro2::Span::call_site()).to_string();
                let stand_in = stand_in(&args, it).to_string().replace(&place, "PLACE");
                stand_in.parse().expect("the text was tokens before")
            },
        ),
        expect![[r##"
            #[allow(warnings, reason = "a mistake is reported")]
            const _: () = {
                #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
                type __put = ();
                impl BankClient {
                    ///The function [`put`](Self::put) as a value.
                    const PUT: rp::__private::DeclaredFunction<Self, __put> = rp::__private::DeclaredFunction::NEW;
                    ///Calls [`put`](Bank::put).
                    fn put(&self, amount: u64) -> rp::__private::Call<()> {
                        ::core::unreachable!()
                    }
                }
                impl rp::__private::WorkerClient for BankClient {
                    type Connection = ();
                    type OnHandle<__H: 'static> = rp::__private::NoFunctions;
                    const WORKER_TRAIT: rp::__private::WorkerTrait = rp::__private::WorkerTrait {
                        name: "Bank",
                        place: PLACE,
                        functions: &[],
                    };
                    fn from_client(client: rp::__private::Client) -> Self {
                        Self(client)
                    }
                    fn client(&self) -> &rp::__private::Client {
                        &self.0
                    }
                }
                impl<__S: 'static> rp::__private::Dispatch<__S> for BankClient {
                    const TABLE: rp::__private::Table<__S, Self> = &[];
                }
            };
        "##]],
    );
}

#[test]
fn handle_has_functions_that_cannot_be_called() {
    check(
        of_trait(
            quote!(
                pub trait Bank {
                    #[cfg(unix)]
                    fn put(&self, cx: &Context<Account>, note: &str, all: Pipe<u64>) -> u64;
                }
            ),
            on_handle::on_handle,
        ),
        expect![[r##"
            #[doc(hidden)]
            pub struct __OnHandle<__H>(::core::marker::PhantomData<fn() -> __H>);
            #[allow(
                dead_code,
                private_interfaces,
                clippy::all,
                clippy::pedantic,
                clippy::impl_trait_in_params,
                reason = "the functions exist for errors only"
            )]
            impl<__H> __OnHandle<__H> {
                #[cfg(unix)]
                #[doc(hidden)]
                pub fn put(
                    &self,
                    _: &str,
                    _: impl P::IntoPipe<u64>,
                ) -> P::Call<u64>
                where
                    __H: P::IsConnected,
                {
                    __H::unreachable()
                }
            }
            impl<__H: 'static> P::OnHandle for __OnHandle<__H> {
                const INSTANCE: &'static Self = &Self(::core::marker::PhantomData);
            }
        "##]],
    );
}

#[test]
fn impl_is_registered() {
    let mut errors = Errors::default();
    let args = ImplArgs::parse(quote!(id = "ledger"), &mut errors);
    let head: ImplHead = syn::parse_quote!(impl bank::Bank for Ledger {});
    let trait_ = head.trait_.as_ref().expect("the impl is of a trait");
    let place = args.facade.source_location(proc_macro2::Span::call_site()).to_string();

    let registration = registration(&args, &head, trait_).to_string().replace(&place, "PLACE");

    check(
        registration.parse().expect("the text was tokens before"),
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl P::OneWorkerTraitPerType for Ledger {
                    type Itself = Self;
                    type Client = bank::BankClient;
                    const WORKER_TYPE: &'static P::WorkerType = __WORKER_TYPE;
                }
                const __WORKER_TYPE: &P::WorkerType = &P::WorkerType::new::<
                    Ledger,
                >("Ledger", "bank::Bank", PLACE)
                    .with_id("ledger");
                P::register! {
                    __WORKER_TYPE
                }
            };
        "#]],
    );
}

#[test]
fn async_main_is_wrapped_outside_of_runtimes() {
    check(
        of_main(
            quote!(),
            quote!(
                #[allow(unused)]
                async fn main() -> R {
                    run().await
                }
            ),
        ),
        expect![[r#"
            fn main() -> R {
                #[allow(unused)]
                async fn main() -> R {
                    run().await
                }
                P::Entry::new().run_async(|| main())
            }
        "#]],
    );
}

#[test]
fn main_gets_arguments_and_settings() {
    check(
        of_main(
            quote!(
                flavor = "multi_thread",
                threads = 4,
                worker(flavor = "current_thread"),
                settings = Settings::default(),
                worker_logs = false,
                crate = rp
            ),
            quote!(
                async fn main(args: Vec<String>) {}
            ),
        ),
        expect![[r#"
            fn main() {
                async fn main(args: Vec<String>) {}
                rp::__private::Entry::new()
                    .flavor(rp::__private::RuntimeFlavor::MultiThread {
                        threads: ::core::option::Option::Some(4),
                    })
                    .worker_flavor(rp::__private::RuntimeFlavor::CurrentThread)
                    .settings(|| rp::__private::settings(Settings::default()))
                    .worker_logs(false)
                    .run_async(|| main(rp::__private::from_args::<Vec<String>>()))
            }
        "#]],
    );
}

#[test]
fn sync_main_runs_without_runtime() {
    check(
        of_main(
            quote!(),
            quote!(
                fn main() {}
            ),
        ),
        expect![[r#"
        fn main() {
            fn main() {}
            P::Entry::new().run_sync(|| main())
        }
    "#]],
    );
}

#[test]
fn snapshot_is_taken_with_or_without_function() {
    let main = quote!(
        fn main() {}
    );

    check(
        of_main(quote!(snapshot), main.clone()),
        expect![[r#"
        fn main() {
            fn main() {}
            P::Entry::new().snapshot().run_sync(|| main())
        }
    "#]],
    );
    check(
        of_main(quote!(snapshot = tables::load), main),
        expect![[r#"
        fn main() {
            fn main() {}
            P::Entry::new()
                .warm_snapshot(|| P::warmed(tables::load()))
                .run_sync(|| main())
        }
    "#]],
    );
}

#[test]
fn test_is_registered_with_its_path() {
    let mut errors = Errors::default();
    let args = EntryArgs::parse_of_test(quote!(), &mut errors);
    let function = syn::parse_quote!(
        #[should_panic]
        async fn fails() {
            panic!()
        }
    );

    check(
        test(&args, &function),
        expect![[r##"
        #[::core::prelude::v1::test]
        #[should_panic]
        fn fails() {
            async fn fails() {
                panic!()
            }
            const __TEST: P::Test = P::Test::new(
                ::core::concat!(::core::module_path!(), "::", "fails"),
                || P::Entry::new(),
            );
            P::register_test! {
                __TEST
            }
            __TEST.run_async(|| fails())
        }
    "##]],
    );
}

#[test]
fn state_is_made_by_default() {
    let args = StateArgs { facade: Facade::new(None) };

    check(
        state(
            &args,
            &syn::parse_quote!(
                struct Calculator;
            ),
        ),
        expect![[r#"
        #[automatically_derived]
        impl P::WorkerState for Calculator {
            type Init = ();
            async fn init(
                (): (),
            ) -> ::core::result::Result<Self, P::BoxError> {
                ::core::result::Result::Ok(<Calculator as ::core::default::Default>::default())
            }
        }
    "#]],
    );
}

#[test]
fn generic_state_bounds_whole_type() {
    let args = StateArgs { facade: Facade::new(None) };

    check(
        state(
            &args,
            &syn::parse_quote!(
                struct Wrapper<T: Clone>(T);
            ),
        ),
        expect![[r#"
            #[automatically_derived]
            impl<T: Clone> P::WorkerState for Wrapper<T>
            where
                Self: ::core::default::Default + 'static,
            {
                type Init = ();
                async fn init(
                    (): (),
                ) -> ::core::result::Result<Self, P::BoxError> {
                    ::core::result::Result::Ok(<Wrapper<T> as ::core::default::Default>::default())
                }
            }
        "#]],
    );
}

#[test]
fn process_function_has_type_with_its_name() {
    check(
        of_process(
            quote!(),
            quote!(
                pub fn score(page: &str, weight: u64) -> u64 {}
            ),
        ),
        expect![[r#"
            ///Runs the function [`score`](fn@score) in other processes.
            ///
            ///A value of this type is a process that runs [`score`](fn@score) for many calls.
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #[allow(
                dead_code,
                non_camel_case_types,
                reason = "the type has the name of its function, and a program may use either"
            )]
            pub struct score {
                process: P::ProcessClient,
            }
            const _: () = {
                #[doc(hidden)]
                pub struct __Key<__F>(::core::marker::PhantomData<__F>);
                #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
                type __score = __Key<fn(&str, u64) -> u64>;
                #[automatically_derived]
                impl P::Declares<__score>
                for P::ProcessClient {
                    const FUNCTION: P::FunctionInfo = P::FunctionInfo::of_process(
                        "score",
                        PLACE,
                        "&str,u64",
                        "u64",
                    );
                    type Codecs = (
                        P::Codec<str>,
                        P::Codec<u64>,
                    );
                    const CODECS: Self::Codecs = (
                        P::codec::<str>(),
                        P::codec::<u64>(),
                    );
                    type Returns = u64;
                    type Output = u64;
                    type Error = P::CallError;
                    const ANSWER: P::Answer<
                        Self::Returns,
                        Self::Output,
                        Self::Error,
                    > = P::plain(P::codec::<u64>());
                }
                #[allow(
                    dead_code,
                    private_interfaces,
                    clippy::impl_trait_in_params,
                    clippy::too_many_arguments,
                    reason = "a program may use some functions only; rustc checks the types in the function"
                )]
                impl score {
                    ///The function [`score`](fn@score) as a value.
                    pub const FUNCTION: P::ProcessFunction<__score> = P::ProcessFunction::NEW;
                    ///Runs [`score`](fn@score) in a new process, which ends after this one call.
                    pub fn run(
                        page: &str,
                        weight: u64,
                    ) -> P::ProcessRun<u64> {
                        P::run::<__score>((page, &weight))
                    }
                    ///Starts a job: a call of [`score`](fn@score) that any process may join.
                    pub fn start(
                        page: &str,
                        weight: u64,
                    ) -> P::StartJob<u64> {
                        P::start::<__score>((page, &weight))
                    }
                    ///Starts a process that runs [`score`](fn@score) for many calls.
                    pub fn reuse() -> P::Reuse<Self> {
                        P::reuse::<__score, Self>()
                    }
                    ///Calls [`score`](fn@score) in this process.
                    pub fn call(
                        &self,
                        page: &str,
                        weight: u64,
                    ) -> P::Call<u64> {
                        P::call::<
                            P::ProcessClient,
                            __score,
                        >(&self.process, (page, &weight))
                    }
                    ///Returns the client of this process.
                    pub fn process(&self) -> &P::ProcessClient {
                        &self.process
                    }
                    ///Runs [`score`](fn@score) on all items, on all cores. Returns a stream of results in order. See `map` of `rpc_parallel::pool::Pool`.
                    pub fn map<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> P::Map<
                        P::ProcessClient,
                        __score,
                    > {
                        P::map(items)
                    }
                    ///Runs [`score`](fn@score) on all items. Returns indexes and results as they are ready. See `map_unordered` of `rpc_parallel::pool::Pool`.
                    pub fn map_unordered<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> P::Map<
                        P::ProcessClient,
                        __score,
                        P::Unordered,
                    > {
                        P::map(items)
                    }
                    ///Returns the first `Some` that [`score`](fn@score) returns. See `find_map` of `rpc_parallel::pool::Pool`.
                    pub fn find_map<__T, __M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            ::core::option::Option<__T>,
                            P::ProcessMapError<__score>,
                        >,
                    >
                    where
                        P::ProcessClient: P::Declares<
                            __score,
                            Output = ::core::option::Option<__T>,
                        >,
                    {
                        P::find_map::<__score, __T, __M>(items)
                    }
                    ///Runs [`score`](fn@score) on all items for its side effects. See `for_each` of `rpc_parallel::pool::Pool`.
                    pub fn for_each<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            u64,
                            P::ProcessMapError<__score>,
                        >,
                    > {
                        P::for_each::<__score, __M>(items)
                    }
                    ///Runs [`score`](fn@score) on all items, and combines the results in the workers, in order. See `map_reduce` of `rpc_parallel::pool::Pool`.
                    pub fn map_reduce<
                        __G: P::Combine<
                                P::ProcessClient,
                                P::ProcessOutput<__score>,
                            >,
                        __M,
                    >(
                        combine: __G,
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> P::MapReduce<
                        P::ProcessClient,
                        __score,
                    > {
                        P::map_reduce(combine, items, true)
                    }
                    ///Runs [`score`](fn@score) on all items, and combines the results in any order. See `map_reduce_commutative` of `rpc_parallel::pool::Pool`.
                    pub fn map_reduce_commutative<
                        __G: P::Combine<
                                P::ProcessClient,
                                P::ProcessOutput<__score>,
                            >,
                        __M,
                    >(
                        combine: __G,
                        items: impl P::IntoItems<
                            P::ProcessInput<__score>,
                            __M,
                        >,
                    ) -> P::MapReduce<
                        P::ProcessClient,
                        __score,
                    > {
                        P::map_reduce(combine, items, false)
                    }
                }
                #[automatically_derived]
                impl P::OfProcess for score {
                    fn of(process: P::ProcessClient) -> Self {
                        Self { process }
                    }
                }
                const __HANDLE: &dyn P::Handle<
                    P::Processes,
                    (),
                > = &P::synchronous::<
                    P::ProcessClient,
                    __score,
                    P::Processes,
                >(|__scope, (__a0, __a1)| score(&__a0, __a1));
                P::register_process! {
                    __HANDLE
                }
            };
        "#]],
    );
}

#[test]
fn async_process_function_takes_patterns_and_pipes() {
    check(
        of_process(
            quote!(id = "pair"),
            quote!(
                #[cfg(unix)]
                #[deprecated]
                async fn r#loop(mut a: u8, (b, c): (u8, u8), d: Pipe<u8>) -> Result<u8, E> {}
            ),
        ),
        expect![[r##"
            #[cfg(unix)]
            ///Runs the function `loop` in other processes.
            ///
            ///A value of this type is a process that runs `loop` for many calls.
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #[allow(
                dead_code,
                non_camel_case_types,
                reason = "the type has the name of its function, and a program may use either"
            )]
            struct r#loop {
                process: P::ProcessClient,
            }
            #[cfg(unix)]
            const _: () = {
                #[doc(hidden)]
                struct __Key<__F>(::core::marker::PhantomData<__F>);
                #[cfg(unix)]
                #[allow(dead_code, non_camel_case_types, reason = "the name is that of a function")]
                type __loop = __Key<fn(u8, (u8, u8), Pipe<u8>) -> Result<u8, E>>;
                #[automatically_derived]
                impl P::Declares<__loop>
                for P::ProcessClient {
                    const FUNCTION: P::FunctionInfo = P::FunctionInfo::of_process(
                            "loop",
                            PLACE,
                            "u8,(u8,u8),Pipe<u8>",
                            "Result<u8,E>",
                        )
                        .with_id("pair");
                    type Codecs = (
                        P::Codec<u8>,
                        P::Codec<(u8, u8)>,
                        P::Codec<P::Pipe<u8>>,
                    );
                    const CODECS: Self::Codecs = (
                        P::codec::<u8>(),
                        P::codec::<(u8, u8)>(),
                        P::pipe_codec::<u8>(),
                    );
                    type Returns = Result<u8, E>;
                    type Output = <Result<u8, E> as P::IsResult>::Ok;
                    type Error = P::FunctionError<
                        <Result<u8, E> as P::IsResult>::Err,
                    >;
                    const ANSWER: P::Answer<
                        Self::Returns,
                        Self::Output,
                        Self::Error,
                    > = P::fallible(
                        P::codec::<
                            <<Self as P::Declares<
                                __loop,
                            >>::Returns as P::IsResult>::Ok,
                        >(),
                        P::error_codec::<
                            <<Self as P::Declares<
                                __loop,
                            >>::Returns as P::IsResult>::Err,
                        >(),
                    );
                }
                #[allow(
                    dead_code,
                    private_interfaces,
                    clippy::impl_trait_in_params,
                    clippy::too_many_arguments,
                    reason = "a program may use some functions only; rustc checks the types in the function"
                )]
                impl r#loop {
                    ///The function `loop` as a value.
                    const FUNCTION: P::ProcessFunction<__loop> = P::ProcessFunction::NEW;
                    ///Runs `loop` in a new process, which ends after this one call.
                    #[deprecated]
                    fn run(
                        a: u8,
                        __a1: (u8, u8),
                        d: impl P::IntoPipe<u8>,
                    ) -> P::TryProcessRun<Result<u8, E>> {
                        P::run::<
                            __loop,
                        >((&a, &__a1, &P::IntoPipe::into_pipe(d)))
                    }
                    ///Starts a process that runs `loop` for many calls.
                    fn reuse() -> P::Reuse<Self> {
                        P::reuse::<__loop, Self>()
                    }
                    ///Calls `loop` in this process.
                    fn call(
                        &self,
                        a: u8,
                        __a1: (u8, u8),
                        d: impl P::IntoPipe<u8>,
                    ) -> P::TryCall<Result<u8, E>> {
                        P::call::<
                            P::ProcessClient,
                            __loop,
                        >(
                            &self.process,
                            (&a, &__a1, &P::IntoPipe::into_pipe(d)),
                        )
                    }
                    ///Returns the client of this process.
                    fn process(&self) -> &P::ProcessClient {
                        &self.process
                    }
                    ///Runs `loop` on all items, on all cores. Returns a stream of results in order. See `map` of `rpc_parallel::pool::Pool`.
                    fn map<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> P::Map<
                        P::ProcessClient,
                        __loop,
                    > {
                        P::map(items)
                    }
                    ///Runs `loop` on all items. Returns indexes and results as they are ready. See `map_unordered` of `rpc_parallel::pool::Pool`.
                    fn map_unordered<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> P::Map<
                        P::ProcessClient,
                        __loop,
                        P::Unordered,
                    > {
                        P::map(items)
                    }
                    ///Returns the first `Some` that `loop` returns. See `find_map` of `rpc_parallel::pool::Pool`.
                    fn find_map<__T, __M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            ::core::option::Option<__T>,
                            P::ProcessMapError<__loop>,
                        >,
                    >
                    where
                        P::ProcessClient: P::Declares<
                            __loop,
                            Output = ::core::option::Option<__T>,
                        >,
                    {
                        P::find_map::<__loop, __T, __M>(items)
                    }
                    ///Runs `loop` on all items for its side effects. See `for_each` of `rpc_parallel::pool::Pool`.
                    fn for_each<__M>(
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            u64,
                            P::ProcessMapError<__loop>,
                        >,
                    > {
                        P::for_each::<__loop, __M>(items)
                    }
                    ///Runs `loop` on all items, and combines the results in the workers, in order. See `map_reduce` of `rpc_parallel::pool::Pool`.
                    fn map_reduce<
                        __G: P::Combine<
                                P::ProcessClient,
                                P::ProcessOutput<__loop>,
                            >,
                        __M,
                    >(
                        combine: __G,
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> P::MapReduce<
                        P::ProcessClient,
                        __loop,
                    > {
                        P::map_reduce(combine, items, true)
                    }
                    ///Runs `loop` on all items, and combines the results in any order. See `map_reduce_commutative` of `rpc_parallel::pool::Pool`.
                    fn map_reduce_commutative<
                        __G: P::Combine<
                                P::ProcessClient,
                                P::ProcessOutput<__loop>,
                            >,
                        __M,
                    >(
                        combine: __G,
                        items: impl P::IntoItems<
                            P::ProcessInput<__loop>,
                            __M,
                        >,
                    ) -> P::MapReduce<
                        P::ProcessClient,
                        __loop,
                    > {
                        P::map_reduce(combine, items, false)
                    }
                }
                #[automatically_derived]
                impl P::OfProcess for r#loop {
                    fn of(process: P::ProcessClient) -> Self {
                        Self { process }
                    }
                }
                #[allow(deprecated, reason = "callers get the warning")]
                const __HANDLE: &dyn P::Handle<
                    P::Processes,
                    (),
                > = &P::asynchronous::<
                    P::ProcessClient,
                    __loop,
                    P::Processes,
                >(|__scope, (__a0, __a1, __a2)| P::boxed(async move {
                    r#loop(__a0, __a1, __a2).await
                }));
                P::register_process! {
                    __HANDLE
                }
            };
        "##]],
    );
}
