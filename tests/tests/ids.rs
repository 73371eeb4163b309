//! Ids depend on names and types only, and never change otherwise.
//!
//! Ids are constants: `FunctionId::of_declaration` and its like are `const fn` of the source text, so
//! that neither the build profile nor any order at run time affects them.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use expect_test::expect_file;
use rpc_parallel::expert::registry;
use rpc_parallel::function::FunctionId;
use rpc_parallel_tests::build::build;
use rpc_parallel_tests::golden::{KeptShaper, Shaper, inner};
use rpc_parallel_tests::program::Program;

/// Lists the worker types of one module as a program does.
fn listing(module: &str) -> String {
    let registry = registry();
    let types = registry.worker_types().filter(|it| it.path().contains(module));
    let mut text = String::new();
    for worker_type in types {
        let (id, path) = (worker_type.id(), worker_type.path());
        writeln!(text, "{id}  {path}: {}", worker_type.worker_trait())
            .expect("writing to a string succeeds");
        for function in worker_type.functions() {
            let (id, signature) = (function.id(), function.signature());
            writeln!(text, "  {id}  {signature}").expect("writing to a string succeeds");
        }
    }
    text
}

#[test]
fn ids_of_golden_workers_are_unchanged() {
    let _ = (Shaper, KeptShaper, inner::Shaper);

    // If this fails, programs built before and after the change do not understand each other. Do not
    // update the file unless that is intended.
    expect_file!["golden/ids.txt"].assert_eq(&listing("::golden::"));
}

#[test]
fn listed_ids_equal_registered_ids() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_list"));

    let listed = Program::run(command.env("RPC_PARALLEL_LIST", "1"));

    assert_eq!(listed.stdout.join("\n") + "\n", registry().to_string());
}

#[test]
fn declaration_order_does_not_change_ids() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let list = |args: &[&str]| {
        let program = build(target, "list", "dev", args);
        let listed = Program::run(Command::new(program).env("RPC_PARALLEL_LIST", "1"));
        assert!(listed.status.success(), "{listed:?}");
        listed.stdout
    };

    let [mut one, mut other] = [list(&[]), list(&["--features", "shuffled"])];

    assert_ne!(one, other, "functions are listed in declaration order");
    one.sort();
    other.sort();
    assert_eq!(one, other);
}

/// Declares a worker trait and returns the ids of its functions. Functions are not part of a module
/// path, so all declarations of this file have the same path.
macro_rules! ids {
    ($(#[$attribute:meta])* $name:ident = $client:ident { $($function:tt)* } $($constant:ident)*) => {{
        #[rpc_parallel::worker]
        trait $name { $($function)* }
        [$($client::$constant.info().id()),*]
    }};
}

fn original() -> [FunctionId; 2] {
    ids!(Original = OriginalClient {
        fn first(&self, count: u32, text: &str) -> Vec<u8>;
        async fn second(&self);
    } FIRST SECOND)
}

#[test]
fn insignificant_changes_keep_function_ids() {
    let reordered = ids!(Original = OriginalClient {
        async fn second(&self);
        fn first(&self, count: u32, text: &str) -> Vec<u8>;
    } FIRST SECOND);
    let with_others = ids!(Original = OriginalClient {
        fn third(&self);
        fn first(&self, count: u32, text: &str) -> Vec<u8>;
        fn fourth(&self);
        async fn second(&self);
    } FIRST SECOND);
    let reformatted = ids!(Original = OriginalClient {
        /// This documentation is no part of the id.
        async fn first(&self, number : u32 , name : & str , ) -> Vec < u8 >;
        fn second(&self) -> ();
    } FIRST SECOND);

    for ids in [reordered, with_others, reformatted] {
        assert_eq!(ids, original());
    }
}

#[test]
fn significant_change_alters_id_of_one_function_only() {
    let changed = [
        ids!(Original = OriginalClient {
            fn first(&self, count: u64, text: &str) -> Vec<u8>;
            async fn second(&self);
        } FIRST SECOND),
        ids!(Original = OriginalClient {
            fn first(&self, count: u32, text: String) -> Vec<u8>;
            async fn second(&self);
        } FIRST SECOND),
        ids!(Original = OriginalClient {
            fn first(&self, count: u32, text: &str) -> Vec<u16>;
            async fn second(&self);
        } FIRST SECOND),
        ids!(Original = OriginalClient {
            fn first(&self, text: &str, count: u32) -> Vec<u8>;
            async fn second(&self);
        } FIRST SECOND),
        ids!(Original = OriginalClient {
            fn other(&self, count: u32, text: &str) -> Vec<u8>;
            async fn second(&self);
        } OTHER SECOND),
        ids!(Original = OriginalClient {
            #[worker(id = "test.first")]
            fn first(&self, count: u32, text: &str) -> Vec<u8>;
            async fn second(&self);
        } FIRST SECOND),
    ];

    let [first, second] = original();
    for (at, [changed, same]) in changed.into_iter().enumerate() {
        assert_ne!(changed, first, "{at}");
        assert_eq!(same, second, "{at}");
    }
}

#[test]
fn renamed_trait_changes_all_function_ids() {
    let renamed = ids!(Renamed = RenamedClient {
        fn first(&self, count: u32, text: &str) -> Vec<u8>;
        async fn second(&self);
    } FIRST SECOND);

    let original = original();
    assert!(renamed.iter().all(|it| !original.contains(it)));
}

#[test]
fn another_module_changes_all_function_ids() {
    mod inner {
        pub fn ids() -> [rpc_parallel::function::FunctionId; 2] {
            ids!(Original = OriginalClient {
                fn first(&self, count: u32, text: &str) -> Vec<u8>;
                async fn second(&self);
            } FIRST SECOND)
        }
    }

    let original = original();
    assert!(inner::ids().iter().all(|it| !original.contains(it)));
}

#[test]
fn fixed_id_ignores_trait_name_and_types() {
    let before = ids!(Original = OriginalClient {
        #[worker(id = "test.first")]
        fn first(&self, count: u32) -> u32;
    } FIRST);
    let after = ids!(Renamed = RenamedClient {
        #[worker(id = "test.first")]
        async fn other(&self, text: &str) -> Result<String, String>;
    } OTHER);

    assert_eq!(before, after);
}
