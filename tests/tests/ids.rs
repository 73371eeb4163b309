//! Ids are what they were, whatever moves.
//!
//! They are constants of what is written: `FunctionId::of_declaration` and its like are `const fn`
//! of texts, so that no build profile and no order of anything at run time can enter.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use expect_test::expect_file;
use rpc_parallel::expert::registry;
use rpc_parallel::function::FunctionId;
use rpc_parallel_tests::build::build;
use rpc_parallel_tests::golden::{KeptShaper, Shaper, inner};
use rpc_parallel_tests::program::Program;

/// The worker types of one module, as a program lists them.
fn listing(module: &str) -> String {
    let registry = registry();
    let types = registry.worker_types().filter(|it| it.path().contains(module));
    let mut text = String::new();
    for worker_type in types {
        let (id, path) = (worker_type.id(), worker_type.path());
        writeln!(text, "{id}  {path}: {}", worker_type.worker_trait()).expect("a string grows");
        for function in worker_type.functions() {
            let (id, signature) = (function.id(), function.signature());
            writeln!(text, "  {id}  {signature}").expect("a string grows");
        }
    }
    text
}

#[test]
fn the_ids_of_the_golden_workers_are_what_they_were() {
    let _ = (Shaper, KeptShaper, inner::Shaper);

    // If this fails, programs of yesterday no longer understand those of today. Do not update the
    // file unless that is what you want.
    expect_file!["golden/ids.txt"].assert_eq(&listing("::golden::"));
}

#[test]
fn a_program_lists_the_ids_that_its_registry_has() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_list"));

    let listed = Program::run(command.env("RPC_PARALLEL_LIST", "1"));

    assert_eq!(listed.stdout.join("\n") + "\n", registry().to_string());
}

#[test]
fn declarations_in_another_order_have_the_same_ids() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let list = |args: &[&str]| {
        let program = build(target, "list", "dev", args);
        let listed = Program::run(Command::new(program).env("RPC_PARALLEL_LIST", "1"));
        assert!(listed.status.success(), "{listed:?}");
        listed.stdout
    };

    let [mut one, mut other] = [list(&[]), list(&["--features", "shuffled"])];

    assert_ne!(one, other, "the functions are listed in the order of their trait");
    one.sort();
    other.sort();
    assert_eq!(one, other);
}

/// The ids of a worker trait's functions, which is declared anew each time but in the same place:
/// the path of a module does not count the functions in it.
macro_rules! ids {
    ($(#[$attribute:meta])* $name:ident = $client:ident { $($function:tt)* } $($constant:ident)*) => {{
        #[rpc_parallel::worker]
        trait $name { $($function)* }
        [$($client::$constant.info().id()),*]
    }};
}

fn original() -> [FunctionId; 2] {
    ids!(Shop = ShopClient {
        fn buy(&self, count: u32, what: &str) -> Vec<u8>;
        async fn sell(&self);
    } BUY SELL)
}

#[test]
fn what_does_not_matter_changes_no_id() {
    let reordered = ids!(Shop = ShopClient {
        async fn sell(&self);
        fn buy(&self, count: u32, what: &str) -> Vec<u8>;
    } BUY SELL);
    let joined_by_others = ids!(Shop = ShopClient {
        fn borrow(&self);
        fn buy(&self, count: u32, what: &str) -> Vec<u8>;
        fn steal(&self);
        async fn sell(&self);
    } BUY SELL);
    let written_otherwise = ids!(Shop = ShopClient {
        /// Documented.
        async fn buy(&self, number : u32 , name : & str , ) -> Vec < u8 >;
        fn sell(&self) -> ();
    } BUY SELL);

    for ids in [reordered, joined_by_others, written_otherwise] {
        assert_eq!(ids, original());
    }
}

#[test]
fn what_matters_changes_the_id_of_its_function_and_no_other() {
    let changed = [
        ids!(Shop = ShopClient {
            fn buy(&self, count: u64, what: &str) -> Vec<u8>;
            async fn sell(&self);
        } BUY SELL),
        ids!(Shop = ShopClient {
            fn buy(&self, count: u32, what: String) -> Vec<u8>;
            async fn sell(&self);
        } BUY SELL),
        ids!(Shop = ShopClient {
            fn buy(&self, count: u32, what: &str) -> Vec<u16>;
            async fn sell(&self);
        } BUY SELL),
        ids!(Shop = ShopClient {
            fn buy(&self, what: &str, count: u32) -> Vec<u8>;
            async fn sell(&self);
        } BUY SELL),
        ids!(Shop = ShopClient {
            fn purchase(&self, count: u32, what: &str) -> Vec<u8>;
            async fn sell(&self);
        } PURCHASE SELL),
        ids!(Shop = ShopClient {
            #[worker(id = "shop.buy")]
            fn buy(&self, count: u32, what: &str) -> Vec<u8>;
            async fn sell(&self);
        } BUY SELL),
    ];

    let [buy, sell] = original();
    for (at, [changed, same]) in changed.into_iter().enumerate() {
        assert_ne!(changed, buy, "{at}");
        assert_eq!(same, sell, "{at}");
    }
}

#[test]
fn another_name_of_the_trait_changes_every_id() {
    let renamed = ids!(Store = StoreClient {
        fn buy(&self, count: u32, what: &str) -> Vec<u8>;
        async fn sell(&self);
    } BUY SELL);

    let original = original();
    assert!(renamed.iter().all(|it| !original.contains(it)));
}

#[test]
fn another_module_changes_every_id() {
    mod inner {
        pub fn ids() -> [rpc_parallel::function::FunctionId; 2] {
            ids!(Shop = ShopClient {
                fn buy(&self, count: u32, what: &str) -> Vec<u8>;
                async fn sell(&self);
            } BUY SELL)
        }
    }

    let original = original();
    assert!(inner::ids().iter().all(|it| !original.contains(it)));
}

#[test]
fn a_fixed_id_stays_while_everything_else_changes() {
    let before = ids!(Shop = ShopClient {
        #[worker(id = "shop.buy")]
        fn buy(&self, count: u32) -> u32;
    } BUY);
    let after = ids!(Store = StoreClient {
        #[worker(id = "shop.buy")]
        async fn purchase(&self, what: &str) -> Result<String, String>;
    } PURCHASE);

    assert_eq!(before, after);
}
